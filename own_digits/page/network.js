"use strict";
// The network of model.py, in JavaScript: convolutions with ReLU and 2x2 max pooling, then fully connected layers with ReLU.
// A volume is {size: [channels, height, width], values}, with the values row by row, channel by channel.

const MEAN = 0.1307, STD = 0.3081;  // of MNIST's pixels, scaled to [0, 1]

function load(network) {  // gives each layer its weights and biases, which stand in one base64 string of float32
  const bytes = Uint8Array.from(atob(network.weights), (char) => char.charCodeAt(0));
  const numbers = new Float32Array(bytes.buffer);
  let start = 0;
  const take = (count) => numbers.subarray(start, (start += count));
  for (const layer of network.layers) {
    layer.weight = take(layer.shape.reduce((product, length) => product * length));
    layer.bias = take(layer.shape[0]);
  }
  return network;
}

function convolve({ shape: [outputs, inputs, rows, columns], padding: [top, left], weight, bias }, { size, values }) {
  const [, height, width] = size, h = height + 2 * top - rows + 1, w = width + 2 * left - columns + 1;
  const sums = new Float64Array(outputs * h * w);
  for (let output = 0, i = 0; output < outputs; output++) {
    sums.fill(bias[output], output * h * w, (output + 1) * h * w);
    for (let input = 0; input < inputs; input++) {
      for (let row = 0; row < rows; row++) {
        const firstY = Math.max(0, top - row), endY = Math.min(h, height + top - row);
        for (let column = 0; column < columns; column++) {
          const factor = weight[i++], firstX = Math.max(0, left - column), endX = Math.min(w, width + left - column);
          for (let y = firstY; y < endY; y++) {
            const to = (output * h + y) * w, from = (input * height + y + row - top) * width + column - left;
            for (let x = firstX; x < endX; x++) sums[to + x] += factor * values[from + x];
          }
        }
      }
    }
  }
  return { size: [outputs, h, w], values: sums };
}

function poolAndRectify({ size: [channels, height, width], values }) {  // 2x2 max pooling, then ReLU
  const h = height >> 1, w = width >> 1, result = new Float64Array(channels * h * w);
  for (let channel = 0, i = 0; channel < channels; channel++) {
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const at = (channel * height + 2 * y) * width + 2 * x;
        result[i++] = Math.max(0, values[at], values[at + 1], values[at + width], values[at + width + 1]);
      }
    }
  }
  return { size: [channels, h, w], values: result };
}

function connect({ shape: [outputs, inputs], weight, bias }, { values }) {
  const sums = new Float64Array(outputs);
  for (let output = 0, i = 0; output < outputs; output++) {
    let sum = bias[output];
    for (let input = 0; input < inputs; input++) sum += weight[i++] * values[input];
    sums[output] = sum;
  }
  return { size: [outputs, 1, 1], values: sums };
}

function run(network, image) {  // returns what goes into each layer, {inputs, sums before pooling, logits, probabilities}
  let volume = { size: [1, 28, 28], values: Float64Array.from(image, (byte) => (byte / 255 - MEAN) / STD) };
  const inputs = [], sums = [];
  for (const layer of network.layers) {
    inputs.push(volume);
    const isConvolution = layer.shape.length === 4, isLast = layer === network.layers.at(-1);
    sums.push(isConvolution ? convolve(layer, volume) : connect(layer, volume));
    if (isConvolution) volume = poolAndRectify(sums.at(-1));
    else if (!isLast) volume = { ...sums.at(-1), values: sums.at(-1).values.map((value) => Math.max(0, value)) };
  }
  const logits = sums.at(-1).values, highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest)), total = powers.reduce((sum, power) => sum + power);
  return { inputs, sums, logits, probabilities: powers.map((power) => power / total) };
}
