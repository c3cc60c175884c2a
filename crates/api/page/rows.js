// Cells that the pool's and the miner's tables share.

import { el } from './dom.js';
import { bitcoin, shorten, span } from './format.js';

/** How far the server's clock is ahead of this one. Ages are told in the server's time. */
let skew = 0;
export function tellTime(serverMs) {
  skew = serverMs - Date.now();
}
export const now = () => Date.now() + skew;

/** An amount to the millisatoshi: the text is exact, `data-msat` holds the integer. */
export function amount(msat) {
  const text = bitcoin(msat);
  return el('span', { 'data-msat': String(msat) }, text.slice(0, -3), el('span', { class: 'tail', text: text.slice(-3) }));
}

/** How long ago; kept true by `age()`. */
export function since(timeMs) {
  const time = el('time', { 'data-since': timeMs, datetime: new Date(timeMs).toISOString(), title: new Date(timeMs).toLocaleString() });
  time.textContent = span(now() - timeMs);
  return time;
}

/** Brings every age on the page up to now. */
export function age() {
  for (const time of document.querySelectorAll('[data-since]')) {
    const text = span(now() - Number(time.dataset.since));
    if (time.textContent !== text) time.textContent = text;
  }
}

export function hash(text) {
  return el('span', { class: 'hash', title: text, text: shorten(text, 6, 10) });
}

/** What became of a block. Depth 100 is where a coinbase may be spent. */
export function status(name, confirmations) {
  const badge = el('span', { class: 'status', 'data-status': name, text: name });
  if (name === 'immature' && typeof confirmations === 'number') badge.append(' ', el('small', { text: `${confirmations}/100` }));
  return badge;
}

/**
 * A cell of the column `name`. On a narrow screen a row becomes a few lines that place cells by their column; the roles
 * keep them a table to those who hear it, and `label` names a figure that would stand without its heading.
 */
export function cell(name, content, label) {
  return el('td', { class: `c-${name}`, role: 'cell', 'data-label': label }, content);
}

/** The same for figures, which stand to the right. */
export function num(name, content, label) {
  const made = cell(name, content, label);
  made.classList.add('num');
  return made;
}
