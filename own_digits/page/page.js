// The page: what is drawn, what the network makes of it, and how each value is computed.

const byId = (id) => document.getElementById(id);
const networks = JSON.parse(byId("networks").textContent).map(load);
const canvas = byId("drawing");
const UNSURE = 0.6;  // a probability; what is less certain is probably not a digit
const ACTIVITY = coloursBetween("#000004", "#320a5e", "#781c6d", "#bc3754", "#ed6925", "#fbb61a", "#fcffa4");  // inferno
const WEIGHT = coloursBetween("#1b4f9c", "#6c9bd2", "#f4f4f1", "#ee9b39", "#b0500a");  // most negative, zero, most positive
const GREY = coloursBetween("#000000", "#ffffff");

const states = [[]];  // of the drawing: the strokes after each change, for undo and redo
let position = 0;  // the index of the state that is shown
let stroke = null, pointer = null;  // the stroke that is being drawn, and the pointer that draws it, {id, type}
let keyboardPen = null;  // {x, y, isDown}
let answers = [], chosen = 0;  // one {strokes, image, inputs, sums, logits, probabilities} per digit; the index of the one shown
let pinned = null;  // the cell whose value is explained: {layer, channel, y, x}
let cursor = null;  // the cell that the keyboard has reached, in the same form
let effects = null;  // how much more and less ink at each pixel lower the answer's probability: {more, less, worst, isDone}
let isWaiting = false, timer = 0, player = 0;

const strokes = () => states[position];
const network = () => networks[byId("step").value];
const isConvolution = (layer) => layer.shape.length === 4;
const rounded = (value) => value.toFixed(2).replace(/^-0.00$/, "0.00").replace("-", "−");
const percent = (probability) => `${(Math.floor(10000 * probability) / 100).toFixed(2)}%`;  // never 100.00% for less

function coloursBetween(...stops) {  // 256 CSS colours
  const rgb = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, value) => {
    const place = (value / 255) * (rgb.length - 1), last = Math.min(Math.floor(place), rgb.length - 2);
    return `rgb(${rgb[last].map((from, i) => Math.round(from + (place - last) * (rgb[last + 1][i] - from)))})`;
  });
}

// ---- Layers: a canvas each, on which all maps lie side by side -------------------------------------------------------

function gridOf([channels, height, width]) {  // how maps of a volume are laid out, in cells with gaps of one between maps
  let columns = Math.ceil(Math.sqrt(channels));
  while (channels % columns) columns++;
  const gap = width > 1 ? 1 : 0, rows = channels / columns;
  return { columns, gap, across: columns * (width + gap) - gap, down: rows * (height + gap) - gap };
}

function placeOf({ channel, y, x }, size) {  // [column, row] of a cell on the canvas, in cells
  const { columns, gap } = gridOf(size);
  return [(channel % columns) * (size[2] + gap) + x, Math.floor(channel / columns) * (size[1] + gap) + y];
}

function paint(canvas, { size, values }, colours, [low, high], frames = []) {  // frames: of cells [column, row, width, height]
  const { across, down, gap } = gridOf(size), cell = Math.max(4, Math.floor(600 / across)), context = canvas.getContext("2d");
  const side = gap || size[0] === 1 ? cell : cell - 1;  // units have a line between them
  if (canvas.width !== across * cell || canvas.height !== down * cell) {
    Object.assign(canvas, { width: across * cell, height: down * cell });
  } else context.clearRect(0, 0, canvas.width, canvas.height);
  values.forEach((value, i) => {
    const x = i % size[2], y = Math.floor(i / size[2]) % size[1], channel = Math.floor(i / size[1] / size[2]);
    const [column, row] = placeOf({ channel, y, x }, size);
    context.fillStyle = colours[clamp(Math.round((255 * (value - low)) / (high - low || 1)), 0, 255)];
    context.fillRect(column * cell, row * cell, side, side);
  });
  for (const [column, row, width, height, isDashed] of frames) {
    const box = [column * cell, row * cell, width * cell, height * cell];
    for (const [colour, line] of [["#000", 6], ["#fff", 3]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: line });
      context.setLineDash(isDashed ? [8, 8] : []);
      context.strokeRect(...box);
    }
  }
  return cell;
}

const volumeAfter = (layer) => answers[chosen]?.inputs[layer + 1] ?? blank(layer);

function blank(layer) {  // the volume after a layer when nothing is drawn
  const { size } = run(network(), new Array(784).fill(0)).inputs[layer + 1];
  return { size, values: new Float64Array(size[0] * size[1] * size[2]) };
}

function makeLayers() {  // a section for each layer but the last, whose outputs the table shows
  document.querySelectorAll(".layer").forEach((section) => section.remove());
  let convolutions = 0, connected = 0;
  network().layers.slice(0, -1).forEach((layer, index) => {
    const [channels, height, width] = blank(index).size;
    const title = isConvolution(layer)
      ? `Convolution ${++convolutions}: ${channels} maps, ${height}×${width}` : `Fully connected ${++connected}: ${channels} units`;
    const section = Object.assign(document.createElement("section"), { className: "layer" });
    section.innerHTML = `<h2>${title} <span class="scale"></span></h2>
      <canvas tabindex="0" role="application" aria-label="${title}. Arrow keys move, Enter explains a value."></canvas>`;
    section.addEventListener("click", (event) => pin(cellAt(event, index) ?? pinned));
    section.addEventListener("keydown", (event) => moveCursor(event, index));
    section.addEventListener("focusout", () => { cursor = null; showLayers(); });
    byId("layers").append(section);
  });
  byId("outputs").querySelector("h2").textContent = `Outputs: ${network().classes.length} probabilities`;
  byId("bars").replaceChildren();
  for (const name of network().classes) {
    const row = byId("bars").insertRow();
    row.innerHTML = '<th scope="row"></th><td class="bar"><div></div></td><td class="percent">–</td>';
    row.firstChild.textContent = name;
  }
}

function cellIn(layer, column, row) {  // the cell at a place on the canvas, given in cells; null in a gap between maps
  const { size } = volumeAfter(layer), { columns, gap } = gridOf(size), [width, height] = [size[2] + gap, size[1] + gap];
  const [x, y] = [column % width, row % height];
  const channel = columns * Math.floor(row / height) + Math.floor(column / width);
  return x < size[2] && y < size[1] ? { layer, channel, y, x } : null;
}

function cellAt(event, layer) {  // the cell under the pointer, or null
  if (event.target.localName !== "canvas") return null;
  const { across, down } = gridOf(volumeAfter(layer).size), box = event.target.getBoundingClientRect();
  const place = (at, start, length, count) => clamp(Math.floor(((at - start) / length) * count), 0, count - 1);
  return cellIn(layer, place(event.clientX, box.left, box.width, across), place(event.clientY, box.top, box.height, down));
}

function moveCursor(event, layer) {
  const { size } = volumeAfter(layer), { across, down } = gridOf(size), direction = ARROWS[event.key];
  if (event.key === "Enter" || event.key === " ") pin(cursor ?? { layer, channel: 0, y: 0, x: 0 });
  else if (direction) {
    let [column, row] = cursor ? placeOf(cursor, size) : [0, 0];
    do {  // steps over the gaps
      column = (column + direction[0] + across) % across;
      row = (row + direction[1] + down) % down;
      cursor = cellIn(layer, column, row);
    } while (!cursor);
    byId("announcement").textContent = `${nameOf(cursor)}: ${rounded(valueOf(cursor))}`;
    showLayers();
  } else return;
  event.preventDefault();
}

function nameOf({ layer, channel, y, x }) {
  return isConvolution(network().layers[layer]) ? `Map ${channel + 1}, row ${y + 1}, column ${x + 1}` : `Unit ${channel + 1}`;
}

function valueOf({ layer, channel, y, x }) {
  const { size: [, height, width], values } = volumeAfter(layer);
  return values[(channel * height + y) * width + x];
}

// ---- How a number is computed --------------------------------------------------------------------------------------------

function pin(cell) {  // null: none
  pinned = cell;
  showLayers();
}

function patchOf({ layer, channel, y, x }) {  // for the largest of the four pooled sums: its place and its terms
  const { shape: [, inputs, rows, columns], padding, weight } = network().layers[layer], answer = answers[chosen];
  const { size: [, height, width], values } = answer.sums[layer];
  const sumAt = ([top, left]) => values[(channel * height + top) * width + left];
  const four = [[2 * y, 2 * x], [2 * y, 2 * x + 1], [2 * y + 1, 2 * x], [2 * y + 1, 2 * x + 1]];
  const place = four.reduce((best, other) => (sumAt(other) > sumAt(best) ? other : best));
  const [top, left] = [place[0] - padding[0], place[1] - padding[1]], { size: [, h, w], values: pixels } = answer.inputs[layer];
  const patches = Array.from({ length: inputs }, (_, input) => Float64Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [top + Math.floor(i / columns), left + (i % columns)];
    return row < 0 || column < 0 || row >= h || column >= w ? 0 : pixels[(input * h + row) * w + column];
  }));
  const kernels = patches.map((_, input) => weight.subarray((channel * inputs + input) * rows * columns).subarray(0, rows * columns));
  return { top, left, rows, columns, patches, kernels, sum: sumAt(place) };
}

function numbers(values, [rows, columns], colours, range, hasText) {  // a canvas of numbers, each on its colour
  const square = Object.assign(document.createElement("canvas"), { ariaHidden: "true" });
  const cell = paint(square, { size: [1, rows, columns], values }, colours, range), context = square.getContext("2d");
  if (!hasText) return square;
  Object.assign(context, { font: `${cell / 3.4}px system-ui, sans-serif`, textAlign: "center", textBaseline: "middle" });
  values.forEach((value, i) => {
    context.fillStyle = Math.abs(value) > 0.6 * range[1] ? "#fff" : "#000";
    context.fillText(rounded(value), (i % columns + 0.5) * cell, (Math.floor(i / columns) + 0.5) * cell);
  });
  return square;
}

const HINT = "To see how a value is computed, click or tap its square. With the keyboard: Tab to a layer, move with the arrow keys, press Enter.";

function showDetail() {  // the terms of the pinned number
  const layer = network().layers[pinned?.layer], next = network().layers[pinned?.layer + 1], figures = [];
  const figure = (...parts) => {
    figures.push(document.createElement("figure"));
    figures.at(-1).append(...parts);
  };
  byId("detail").className = pinned ? "pinned" : "";
  byId("close").hidden = !pinned;
  const title = pinned && document.querySelectorAll(".layer h2")[pinned.layer].textContent.split(":")[0];
  byId("detail-title").textContent = pinned ? `${title}: ${nameOf(pinned).toLowerCase()}` : "How a value is computed";
  let text = pinned ? "Draw something to see its value." : HINT;
  if (pinned && answers[chosen] && isConvolution(layer)) {
    const { rows, columns, patches, kernels, sum } = patchOf(pinned), bias = layer.bias[pinned.channel];
    const largest = (lists) => Math.max(...lists.map((list) => Math.max(...list.map(Math.abs)))) || 1;
    patches.forEach((patch, i) => {
      const total = patch.reduce((all, value, at) => all + value * kernels[i][at], 0), hasText = patches.length === 1;
      const ranges = [patches, kernels].map((lists) => [-largest(lists), largest(lists)]);
      const [left, right] = [patch, kernels[i]].map((values, at) => numbers(values, [rows, columns], WEIGHT, ranges[at], hasText));
      figure(left, "×", right, `= ${rounded(total)}`);
    });
    text = `${patches.length > 1 ? "Together, these sums are" : "Each pixel of the patch (normalised: black is −0.42) is multiplied by its weight, and the products add up to"} ${rounded(sum - bias)}. ` +
      `Adding the bias, ${rounded(bias)}, gives ${rounded(sum)}, the largest of four neighbouring sums (max pooling). ReLU makes it ${rounded(Math.max(0, sum))}.`;
  } else if (pinned && answers[chosen]) {
    const activation = valueOf(pinned), isLast = next === network().layers.at(-1);
    const weights = Array.from({ length: next.shape[0] }, (_, output) => next.weight[output * next.shape[1] + pinned.channel]);
    const terms = weights.map((weight) => activation * weight), largest = Math.max(...terms.map(Math.abs)) || 1;
    terms.forEach((term, output) => {
      const name = isLast ? network().classes[output] : output + 1;
      figure(`${name}: ${rounded(activation)} × ${rounded(weights[output])} = `, numbers([term], [1, 1], WEIGHT, [-largest, largest], false), rounded(term));
    });
    text = activation > 0
      ? `To each ${isLast ? "output" : "unit of the next layer"}, this unit adds its activation, ${rounded(activation)}, times the weight between the two.`
      : "Its sum is below 0, so ReLU makes it 0, and it adds nothing to any output.";
  }
  byId("terms").replaceChildren(...figures);
  if (byId("detail-text").textContent !== text) byId("detail-text").textContent = text;
}

// ---- What is shown ---------------------------------------------------------------------------------------------------

function showImage() {
  const image = answers[chosen]?.image ?? new Uint8Array(784), size = [1, FIELD, FIELD], frames = [];
  if (pinned?.layer === 0 && answers[chosen] && isConvolution(network().layers[0])) {
    const { left, top, columns, rows } = patchOf(pinned);
    frames.push([left, top, columns, rows]);
  }
  const cell = paint(byId("image"), { size, values: image }, GREY, [0, 255], frames), context = byId("image").getContext("2d");
  byId("doubt").textContent = effects ? "Trying more and less ink at each pixel …" : "";
  if (!effects || !answers[chosen]) return;
  const { more, less, worst } = effects, largest = Math.max(0.1, ...more, ...less);
  for (const [values, colour] of [[more, "232, 116, 12"], [less, "42, 143, 224"]]) {
    values.forEach((value, i) => {
      if (value < 0.05 * largest) return;
      context.fillStyle = `rgba(${colour}, ${Math.min(1, 0.25 + value / largest)})`;
      context.beginPath();
      context.arc((i % FIELD + 0.5) * cell, (Math.floor(i / FIELD) + 0.5) * cell, 0.35 * cell, 0, 2 * Math.PI);
      context.fill();
    });
  }
  if (!effects.isDone) return;
  byId("doubt").textContent = "No single blob of ink, added or removed, changes the probability by a percentage point.";
  const { probabilities } = answers[chosen], highest = Math.max(...probabilities);
  if (!worst || highest - worst.least < 0.01) return;
  Object.assign(context, { strokeStyle: worst.isInk ? "#e8740c" : "#2a8fe0", lineWidth: cell / 3 });
  context.beginPath();
  context.arc((worst.x + 0.5) * cell, (worst.y + 0.5) * cell, 1.5 * cell, 0, 2 * Math.PI);
  context.stroke();
  const { isInk, name, probability } = worst, still = name === network().classes[probabilities.indexOf(highest)] ? "still " : "";
  byId("doubt").textContent = `${isInk ? "More" : "Less"} ink in the ring has the largest effect: the answer would ${still}be ${name} (probability ${percent(probability)}).`;
}

function showLayers() {
  showImage();
  document.querySelectorAll(".layer").forEach((section, index) => {
    const volume = volumeAfter(index), { size, values } = volume, frames = [], highest = values.reduce((a, b) => Math.max(a, b), 0);
    if (pinned?.layer === index) frames.push([...placeOf(pinned, size), 1, 1]);
    if (pinned?.layer === index + 1 && answers[chosen] && isConvolution(network().layers[index + 1])) {
      const { top, left, rows, columns } = patchOf(pinned), [y, x] = [Math.max(0, top), Math.max(0, left)];
      const [h, w] = [Math.min(size[1], top + rows) - y, Math.min(size[2], left + columns) - x];
      for (let channel = 0; channel < size[0]; channel++) frames.push([...placeOf({ channel, y, x }, size), w, h]);
    }
    if (cursor?.layer === index) frames.push([...placeOf(cursor, size), 1, 1, true]);
    paint(section.querySelector("canvas"), volume, ACTIVITY, [0, highest], frames);
    section.querySelector(".scale").textContent = answers[chosen] ? `0 to ${rounded(highest)}` : "";
  });
  showDetail();
}

function show() {
  const { classes } = network(), answer = answers[chosen], names = answers.map(({ probabilities: p }) => classes[p.indexOf(Math.max(...p))]);
  const highest = answers.map(({ probabilities }) => Math.max(...probabilities)), isSure = highest.map((p) => p >= UNSURE);
  const shown = names.map((name, i) => (isSure[i] ? name : "?"));
  byId("number").replaceChildren(...shown.map((name, i) => {
    const button = Object.assign(document.createElement("button"), { textContent: name, ariaPressed: String(i === chosen) });
    button.addEventListener("click", () => { chosen = i; restart(); show(); byId("number").children[i].focus(); });
    return button;
  }));
  const doubtful = isSure.indexOf(false), separator = classes.some((name) => name.length > 1) ? " " : "";
  let message = strokes().length && !keyboardPen?.isDown && !pointer ? "A dot isn't a digit: draw a line." : "";
  if (doubtful >= 0) message = `This doesn't look like anything that the network knows. Its best guess is ${names[doubtful]} (probability ${percent(highest[doubtful])}).`;
  else if (answers.length) message = `${names.join(separator)} (probability ${percent(highest.reduce((product, p) => product * p))})`;
  if (answers.length > 1) message += `${doubtful < 0 ? "." : ""} Click a digit to see its layers.`;
  byId("message").textContent = message;
  const other = byId("other").value === "" || !answer ? null : run(networks[byId("other").value], answer.image).probabilities;
  [...byId("bars").rows].forEach((row, i) => {
    const probability = answer?.probabilities[i] ?? 0, bar = row.cells[1];
    row.className = answer && probability === highest[chosen] ? "best" : "";
    bar.firstChild.style.width = `${100 * probability}%`;
    if (other && bar.children.length < 2) bar.append(document.createElement("div"));
    if (!other) bar.firstChild.nextSibling?.remove();
    else bar.lastChild.style.width = `${100 * other[i]}%`;
    row.cells[2].textContent = answer ? percent(probability) : "–";
    row.title = other ? `other checkpoint: ${percent(other[i])}` : "";
  });
  showLayers();
}

function restart() {  // looks for what would change the answer, when the pen has paused
  effects = null;
  clearTimeout(timer);
  if (answers.length) timer = setTimeout(findEffects, 300);
}

async function findEffects() {  // in slices of 10 ms; ends when something else is drawn
  const { image, probabilities } = answers[chosen], before = Math.max(...probabilities), best = probabilities.indexOf(before);
  const found = { more: new Float64Array(784), less: new Float64Array(784) }, [asked, { classes }] = [answers[chosen], network()];
  let lowest = before, end = performance.now() + 10;
  effects = found;
  for (let i = 0; i < 784; i++) {
    const [x, y] = [i % FIELD, Math.floor(i / FIELD)];
    for (const isInk of [true, false]) {
      const other = changed(image, x, y, isInk);
      if (!other) continue;
      const { probabilities: after } = run(network(), other), probability = Math.max(...after);
      found[isInk ? "more" : "less"][i] = Math.max(0, before - after[best]);
      if (after[best] < lowest) {
        lowest = after[best];
        found.worst = { x, y, isInk, probability, least: lowest, name: classes[after.indexOf(probability)] };
      }
    }
    if (performance.now() < end) continue;
    await new Promise((resume) => setTimeout(resume));
    if (effects !== found || answers[chosen] !== asked) return;
    if (x === 0) showImage();
    end = performance.now() + 10;
  }
  found.isDone = true;
  showImage();
}

// ---- Drawing ---------------------------------------------------------------------------------------------------------

function render() {
  const style = getComputedStyle(canvas), pixels = Math.round(canvas.clientWidth * devicePixelRatio), context = canvas.getContext("2d");
  if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
  context.setTransform(pixels / SIZE, 0, 0, pixels / SIZE, 0, 0);
  context.clearRect(0, 0, SIZE, SIZE);
  Object.assign(context, { strokeStyle: style.color, lineCap: "round", lineJoin: "round" });
  for (const { width, points } of strokes()) {
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(...points[0]);
    for (const point of points) context.lineTo(...point);  // a stroke of one point is a dot
    context.stroke();
  }
  if (keyboardPen && document.activeElement === canvas) {
    Object.assign(context, { lineWidth: 2, strokeStyle: style.getPropertyValue("--best") });
    context.beginPath();
    context.arc(keyboardPen.x, keyboardPen.y, keyboardPen.isDown ? 6 : 12, 0, 2 * Math.PI);
    context.stroke();
  }
  byId("undo").disabled = position === 0;
  byId("redo").disabled = position === states.length - 1;
  byId("clear").disabled = !strokes().length;
}

function read() {  // reads the drawing and shows all that follows from it
  isWaiting = false;
  const last = strokes().at(-1);
  answers = digitsOf(strokes()).flatMap((group) => {
    const image = imageOf(group);
    return image ? [{ strokes: group, image, ...run(network(), image) }] : [];
  });
  chosen = Math.max(0, answers.findIndex((digit) => digit.strokes.includes(last)));
  restart();
  render();
  show();
}

function update() {  // after points were added: once a frame
  if (!isWaiting) requestAnimationFrame(() => isWaiting && read());
  isWaiting = true;
}

function announce() {  // to screen readers, when a stroke has ended
  read();
  byId("announcement").textContent = byId("message").textContent;
}

function commit(state) {  // makes a new state of the drawing, and forgets those that were undone
  states.splice(++position, Infinity, state);
}

function travel(by) {  // undo and redo
  position = clamp(position + by, 0, states.length - 1);
  if (keyboardPen) keyboardPen.isDown = false;
  announce();
}

function clear() {
  if (strokes().length) commit([]);
  if (keyboardPen) keyboardPen.isDown = false;
  announce();
}

const penWidth = () => Number(document.querySelector("input[name=pen]:checked").value);

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  const place = (at, from, length) => clamp(((at - from) / length) * SIZE, 0, SIZE);
  return [place(event.clientX, box.left, box.width), place(event.clientY, box.top, box.height)];
}

canvas.addEventListener("pointerdown", (event) => {
  const isPenAfterPalm = event.pointerType === "pen" && pointer?.type === "touch";
  if ((pointer && !isPenAfterPalm) || event.button !== 0) return;
  if (isPenAfterPalm && strokes().includes(stroke)) states.splice(position--);  // what the palm drew
  pointer = { id: event.pointerId, type: event.pointerType };
  keyboardPen = null;
  canvas.setPointerCapture(pointer.id);
  commit([...strokes(), (stroke = { width: penWidth(), points: [pointOf(event)] })]);
  update();
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer?.id || !strokes().includes(stroke)) return;  // the stroke may have been undone
  const events = event.getCoalescedEvents?.() ?? [];
  stroke.points.push(...(events.length ? events : [event]).map(pointOf));
  update();
});
canvas.addEventListener("lostpointercapture", (event) => {  // after pointerup and pointercancel
  if (event.pointerId !== pointer?.id) return;
  pointer = null;
  announce();
});
canvas.addEventListener("contextmenu", (event) => event.preventDefault());

const ACTIONS = { undo: () => travel(-1), redo: () => travel(1), clear };
for (const [id, action] of Object.entries(ACTIONS)) {
  byId(id).addEventListener("click", () => {
    action();
    if (byId(id).disabled) canvas.focus({ preventScroll: true });  // else the focus would be lost
  });
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || pointer) return;
  keyboardPen ??= { x: SIZE / 2, y: SIZE / 4, isDown: false };
  const pen = keyboardPen, direction = ARROWS[event.key];
  if (direction) {
    const length = event.shiftKey ? 4 : 14;
    pen.x = clamp(pen.x + length * direction[0], 20, SIZE - 20);
    pen.y = clamp(pen.y + length * direction[1], 20, SIZE - 20);
    if (pen.isDown) strokes().at(-1).points.push([pen.x, pen.y]);
    update();
  } else if (event.key === " ") {
    if (!event.repeat) pen.isDown = !pen.isDown;
    if (pen.isDown && !event.repeat) commit([...strokes(), { width: penWidth(), points: [[pen.x, pen.y]] }]);
    if (pen.isDown) update();
    else announce();
    byId("announcement").textContent = `Pen ${pen.isDown ? "down" : "up"}. ${pen.isDown ? "" : byId("message").textContent}`;
  } else if (event.key === "Backspace") travel(-1);
  else if (event.key === "Delete") clear();
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (!(event.ctrlKey || event.metaKey) || !["z", "y"].includes(key)) return;
  event.preventDefault();
  travel(key === "y" || event.shiftKey ? 1 : -1);
});
canvas.addEventListener("focus", render);
canvas.addEventListener("blur", () => {
  if (keyboardPen) keyboardPen.isDown = false;
  render();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
addEventListener("resize", render);

// ---- Checkpoints -----------------------------------------------------------------------------------------------------

function showCheckpoint() {
  const { name, classes } = network();
  byId("weights-name").textContent = byId("step").ariaValueText = name;
  byId("known").textContent = classes.join() === "0,1,2,3,4,5,6,7,8,9" ? "the digits 0 to 9" : classes.join(", ");
  const kept = chosen;
  makeLayers();
  read();
  chosen = kept;  // rather than the digit of the last stroke
  show();
}

function play() {  // steps through the checkpoints, from the first one again if the last one is shown
  const slider = byId("step"), isAtEnd = () => Number(slider.value) === networks.length - 1;
  if (player || isAtEnd()) slider.value = player ? slider.value : 0;
  clearInterval(player);
  player = player ? 0 : setInterval(() => {
    if (isAtEnd()) play();
    else slider.value++;
    showCheckpoint();
  }, 800);
  byId("play").textContent = player ? "Pause" : "Play";
  showCheckpoint();
}

byId("step").max = networks.length - 1;
byId("checkpoints").hidden = networks.length === 1;
networks.forEach(({ name }, value) => byId("other").append(Object.assign(document.createElement("option"), { value, textContent: name })));
byId("step").addEventListener("input", showCheckpoint);
byId("other").addEventListener("change", show);
byId("play").addEventListener("click", play);
byId("close").addEventListener("click", () => pin(null));
showCheckpoint();
