// A line over time, drawn as SVG. Knows nothing of pools: points in, picture out.

import { el } from './dom.js';
import { clock } from './format.js';

const SVG = 'http://www.w3.org/2000/svg';
const LEFT = 62;
const RIGHT = 10;
const TOP = 10;
const FOOT = 24;
let gradients = 0;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A round step so that `most` is reached in about `lines` of them. */
function roundStep(most, lines) {
  const rough = most / lines;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? 10 * power;
}

/** "2.00 MH/s" on an axis is "2 MH/s". */
function tick(text) {
  return text.replace(/\.(\d*?)0+(?= )/, (_, kept) => (kept ? `.${kept}` : ''));
}

const TIME_STEPS = [15e3, 30e3, 60e3, 2 * 60e3, 5 * 60e3, 10 * 60e3, 15 * 60e3, 30 * 60e3, 3600e3, 2 * 3600e3];

export class Chart {
  /** `format` turns a value into words; `name` is what the chart shows, for those who hear it. */
  constructor(host, { format, name }) {
    this.host = host;
    this.format = format;
    this.name = name;
    this.points = [];
    this.marks = [];
    this.gradient = `chart-wash-${gradients += 1}`;
    this.wait = el('p', { class: 'chart-wait', text: 'Gathering the first points' });
    this.tip = el('div', { class: 'tip', hidden: '' });
    this.svg = svg('svg', { role: 'img', 'aria-label': name });
    host.replaceChildren(this.svg, this.tip, this.wait);
    new ResizeObserver(() => this.draw()).observe(host);
    host.addEventListener('pointermove', (event) => this.point(event));
    host.addEventListener('pointerleave', () => this.unpoint());
  }

  /** Points are [time in ms, value], oldest first; marks are times. `windowMs` is the longest span to show. */
  show(points, marks, windowMs) {
    this.points = points;
    this.marks = marks;
    this.windowMs = windowMs;
    this.draw();
  }

  draw() {
    const { width, height } = this.host.getBoundingClientRect();
    const enough = this.points.length > 1 && width > 0;
    this.wait.hidden = enough;
    if (!enough) {
      this.svg.replaceChildren();
      return;
    }
    const to = this.points.at(-1)[0];
    const from = Math.max(this.points[0][0], to - this.windowMs);
    const seen = this.points.filter(([time]) => time >= from);
    const most = Math.max(...seen.map(([, value]) => value));
    const step = roundStep(most > 0 ? most * 1.08 : 1, 4);
    const top = Math.ceil((most > 0 ? most * 1.08 : 1) / step) * step;
    const x = (time) => LEFT + (time - from) / Math.max(1, to - from) * (width - LEFT - RIGHT);
    const y = (value) => height - FOOT - value / top * (height - TOP - FOOT);
    this.frame = { from, to, x, y, seen, width, height };

    const parts = [svg('defs', {}, svg('linearGradient', { id: this.gradient, x1: 0, y1: 0, x2: 0, y2: 1 },
      svg('stop', { offset: 0, class: 'area-top' }), svg('stop', { offset: 1, class: 'area-foot' })))];
    for (let value = 0; value <= top * 1.001; value += step) {
      parts.push(svg('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: Math.round(y(value)), y2: Math.round(y(value)) }));
      parts.push(svg('text', { class: 'tick', x: LEFT - 9, y: y(value) + 4, 'text-anchor': 'end' }, value === 0 ? '0' : tick(this.format(value))));
    }
    const fits = Math.max(2, Math.floor((width - LEFT) / (width < 500 ? 64 : 90)));
    const timeStep = TIME_STEPS.find((each) => (to - from) / each <= fits) ?? TIME_STEPS.at(-1);
    const zone = new Date(to).getTimezoneOffset() * 60e3;
    for (let time = Math.ceil((from - zone) / timeStep) * timeStep + zone; time <= to; time += timeStep) {
      if (x(time) > LEFT + 14 && x(time) < width - RIGHT - 14) {
        parts.push(svg('text', { class: 'tick', x: x(time), y: height - 5, 'text-anchor': 'middle' }, clock(time, timeStep < 60e3)));
      }
    }
    const path = seen.map(([time, value], i) => `${i ? 'L' : 'M'}${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join('');
    parts.push(svg('path', { fill: `url(#${this.gradient})`, d: `${path}L${x(seen.at(-1)[0]).toFixed(1)} ${y(0)}L${x(seen[0][0]).toFixed(1)} ${y(0)}Z` }));
    parts.push(svg('path', { class: 'line', d: path }));
    const marks = this.marks.filter((time) => time >= from && time <= to);
    const room = (x(to) - x(Math.min(to, ...marks))) / marks.length;
    const side = room > 14 ? 9 : 5.5;
    this.crowded = room < 6; // marks that touch say nothing
    for (const time of this.crowded ? [] : marks) {
      parts.push(svg('rect', { class: 'mark', width: side, height: side, rx: 1.5, transform: `translate(${x(time).toFixed(1)} ${(y(0) - side * 0.707).toFixed(1)}) rotate(45)` }));
    }
    this.cursor = svg('line', { class: 'cursor', y1: TOP, y2: height - FOOT, visibility: 'hidden' });
    this.spot = svg('circle', { class: 'spot', r: 5, visibility: 'hidden' });
    parts.push(this.cursor, this.spot);
    this.svg.replaceChildren(...parts);
    this.svg.setAttribute('aria-label', `${this.name}: now ${this.format(seen.at(-1)[1])}, at most ${this.format(most)} since ${clock(from, false)}`);
    if (this.pointed !== undefined) this.follow(this.pointed);
  }

  point(event) {
    this.pointed = event.clientX - this.host.getBoundingClientRect().left;
    this.follow(this.pointed);
  }

  /** Puts the cursor on the point nearest to `left`, pixels from the chart's edge. */
  follow(left) {
    if (!this.frame || !this.cursor) return;
    const { x, y, seen, width } = this.frame;
    const [time, value] = seen.reduce((best, each) => Math.abs(x(each[0]) - left) < Math.abs(x(best[0]) - left) ? each : best);
    for (const [name, place] of [['x1', x(time)], ['x2', x(time)], ['visibility', 'visible']]) this.cursor.setAttribute(name, place);
    for (const [name, place] of [['cx', x(time)], ['cy', y(value)], ['visibility', 'visible']]) this.spot.setAttribute(name, place);
    this.tip.replaceChildren(el('b', { text: this.format(value) }), clock(time, true));
    this.tip.hidden = false;
    const room = this.tip.offsetWidth;
    this.tip.style.left = `${Math.min(width - room - 4, Math.max(LEFT, x(time) - room / 2))}px`;
  }

  unpoint() {
    this.pointed = undefined;
    this.tip.hidden = true;
    this.cursor?.setAttribute('visibility', 'hidden');
    this.spot?.setAttribute('visibility', 'hidden');
  }
}
