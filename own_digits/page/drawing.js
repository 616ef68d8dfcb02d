// From strokes to images like MNIST's, without reading pixels back. A stroke is {width, points}, points being [x, y].

const SIZE = 392;  // side of the drawing area in the coordinates of strokes; the pen widths are in these units, too
const FIELD = 28, BOX = 20, CENTRE = 14;  // pixels; MNIST's centres of mass are in the middle of pixel 14, counted from 0
const MIN_STROKE_WIDTH = 2.5, MAX_STROKE_WIDTH = 3.5;  // pixels: the range into which stroke widths are brought
const MAX_GAP = 0.04, MIN_SIZE = 0.2;  // of the tallest digit: between the strokes of one digit; of what isn't a mere speck

const clamp = (value, lowest, highest) => Math.min(Math.max(value, lowest), highest);

function boxOf(strokes) {  // [left, top, right, bottom] of the ink
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { width, points } of strokes) {
    for (const [x, y] of points) {
      box[0] = Math.min(box[0], x - width / 2);
      box[1] = Math.min(box[1], y - width / 2);
      box[2] = Math.max(box[2], x + width / 2);
      box[3] = Math.max(box[3], y + width / 2);
    }
  }
  return box;
}

const extent = (strokes, [left, top, right, bottom] = boxOf(strokes)) => Math.max(right - left, bottom - top);

function digitsOf(strokes) {  // groups of strokes from left to right; those of a group overlap, or nearly
  const groups = [], tallest = Math.max(...strokes.map((stroke) => extent([stroke])));
  for (const stroke of [...strokes].sort((a, b) => boxOf([a])[0] - boxOf([b])[0])) {
    const isClose = groups.length && boxOf([stroke])[0] - boxOf(groups.at(-1))[2] < MAX_GAP * tallest;
    if (isClose) groups.at(-1).push(stroke);
    else groups.push([stroke]);
  }
  return groups.filter((group) => extent(group) >= MIN_SIZE * tallest);
}

function imageOf(strokes) {  // 784 whole numbers from 0 to 255: MNIST's size, position and stroke width; null for a dot
  const pen = Math.max(...strokes.map((stroke) => stroke.width)), [left, top, right, bottom] = boxOf(strokes);
  const length = extent(strokes);
  if (length < 2.2 * pen) return null;
  const width = clamp((BOX * pen) / length, MIN_STROKE_WIDTH, MAX_STROKE_WIDTH), scale = (BOX - width) / (length - pen);
  const traced = (dx, dy) => trace(strokes.map(({ points }) => points.map(([x, y]) => [
    scale * (x - (left + right) / 2) + FIELD / 2 + dx, scale * (y - (top + bottom) / 2) + FIELD / 2 + dy,
  ])), width);
  const [x, y] = centreOfMass(traced(0, 0));
  return traced(Math.round(CENTRE - x), Math.round(CENTRE - y)).map((ink) => Math.round(255 * ink));
}

function trace(lines, width) {  // ink of lines drawn with a round pen, in pixels: 784 numbers from 0 to 1
  const ink = new Float64Array(FIELD * FIELD), reach = width / 2 + 0.5;
  for (const points of lines) {
    points.forEach(([x1, y1], i) => {
      const [x0, y0] = points[Math.max(0, i - 1)], dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy || 1;
      const first = (a, b) => clamp(Math.floor(Math.min(a, b) - reach), 0, FIELD);
      const end = (a, b) => clamp(Math.ceil(Math.max(a, b) + reach), 0, FIELD);
      for (let y = first(y0, y1); y < end(y0, y1); y++) {
        for (let x = first(x0, x1); x < end(x0, x1); x++) {
          const along = clamp(((x + 0.5 - x0) * dx + (y + 0.5 - y0) * dy) / square, 0, 1);
          const distance = Math.hypot(x + 0.5 - x0 - along * dx, y + 0.5 - y0 - along * dy);
          ink[FIELD * y + x] = Math.max(ink[FIELD * y + x], clamp(reach - distance, 0, 1));
        }
      }
    });
  }
  return ink;
}

function centreOfMass(ink) {  // [x, y], counted from 0 in the middle of the first pixel
  const sum = (weigh) => ink.reduce((total, value, i) => total + value * weigh(i), 0);
  return [(i) => i % FIELD, (i) => Math.floor(i / FIELD)].map((place) => sum(place) / sum(() => 1));
}

function changed(image, x, y, isInk) {  // the image with a blob of ink at a pixel, or with a hole there; null if none is new
  const result = image.slice();
  for (let row = Math.max(0, y - 2); row <= Math.min(FIELD - 1, y + 2); row++) {
    for (let column = Math.max(0, x - 2); column <= Math.min(FIELD - 1, x + 2); column++) {
      const blob = Math.round(255 * clamp(2.25 - Math.hypot(column - x, row - y), 0, 1)), at = FIELD * row + column;
      result[at] = isInk ? Math.max(result[at], blob) : Math.min(result[at], 255 - blob);
    }
  }
  return result.some((value, i) => value !== image[i]) ? result : null;
}
