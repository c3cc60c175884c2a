// The pool's view: what everybody may see.

import { Chart } from './chart.js';
import { byId, copyOn, el, fill, put } from './dom.js';
import { count, difficulty, hashrate, percent, scaled, shorten, span } from './format.js';
import { amount, cell, hash, num, since, status, tellTime } from './rows.js';
import { get } from './source.js';

const RANGES = [['15 min', 15], ['1 h', 60], ['6 h', 360]];
const PAGE = 20;
const READ = 100; // blocks to read at least: the chart marks more than the table shows

let chart;
let minutes = 15;
let samples = [];
let blocks = [];
let wanted = PAGE;
let height = null;
let urls = '';
let reloading = null;

export function start() {
  chart = new Chart(byId('pool-chart'), { format: hashrate, name: 'Pool hashrate over time' });
  for (const [label, long] of RANGES) {
    const button = el('button', { type: 'button', 'aria-pressed': long === minutes, text: label });
    button.addEventListener('click', () => {
      minutes = long;
      for (const each of byId('pool-ranges').children) each.setAttribute('aria-pressed', each === button);
      loadSamples();
    });
    byId('pool-ranges').append(button);
  }
  byId('blocks-more').addEventListener('click', () => {
    wanted = Math.min(500, wanted + 60);
    loadBlocks();
  });
  reload();
}

/** Everything anew: at the start, and when the line to the pool is back. */
export function reload() {
  get('api/v1/pool').then(hear, unanswered);
  loadBlocks();
  loadSamples();
}

/** What does not come now comes with the next event; the state at the top of the page says how things are. */
function unanswered(error) {
  if (error.status !== 0) console.warn(error);
}

async function loadSamples() {
  try {
    const history = await get(`api/v1/pool/hashrate?minutes=${minutes}`);
    samples = history.samples.map((sample) => [sample.time_ms, sample.hashrate]);
    draw();
  } catch (error) {
    unanswered(error);
  }
}

/** Reads the blocks again. Several calls while one is under way become one more. */
export async function loadBlocks() {
  if (reloading) {
    reloading.again = true;
    return;
  }
  reloading = { again: false };
  try {
    const first = blocks.length === 0;
    const list = await get(`api/v1/blocks?limit=${Math.max(wanted, READ)}`);
    blocks = list.blocks;
    put('blocks-count', wanted < list.total ? `${wanted} of ${count(list.total)}` : '');
    byId('blocks-more').hidden = wanted >= list.total || wanted >= 500;
    showBlocks(!first);
    draw();
  } catch (error) {
    unanswered(error);
  } finally {
    const { again } = reloading;
    reloading = null;
    if (again) loadBlocks();
  }
}

/** Takes one state of the pool, from the API or as an event. */
export function hear(pool) {
  tellTime(pool.time_ms);
  const [figure, prefix] = scaled(pool.hashrate);
  put('pool-hashrate', figure, pool.hashrate);
  put('pool-hashrate-unit', `${prefix}H/s`);
  put('pool-workers', count(pool.workers), pool.workers);
  put('pool-connections', `on ${count(pool.connections)} ${pool.connections === 1 ? 'connection' : 'connections'}`, pool.connections);
  put('pool-blocks', count(pool.blocks_found), pool.blocks_found ?? '');
  put('pool-orphaned', pool.blocks_orphaned ? `, ${count(pool.blocks_orphaned)} orphaned` : '', pool.blocks_orphaned ?? '');
  put('pool-accepted', count(pool.accepted_shares), pool.accepted_shares ?? '');
  put('pool-rejected', rejects(pool), pool.rejected_shares ?? '');
  put('pool-effort', pool.round_effort === null ? '–' : percent(pool.round_effort), pool.round_effort ?? '');
  byId('pool-effort-bar').value = Math.min(1, pool.round_effort ?? 0);
  put('pool-difficulty', difficulty(pool.network_difficulty), pool.network_difficulty ?? '');
  put('pool-height', pool.height === null ? 'no template yet' : `next block ${count(pool.height)}`, pool.height ?? '');
  put('pool-template-age', pool.template_age_ms === null ? '–' : span(pool.template_age_ms), pool.template_age_ms ?? '');
  put('pool-scheme', pool.scheme);
  put('pool-fee', `${pool.fee_percent} %`, pool.fee_percent);
  put('pool-tag', pool.tag);
  put('network', pool.network);
  byId('network').hidden = false;
  put('connect-network', pool.network === 'main' ? '' : ` on ${pool.network}`);
  put('version', pool.version);
  showUrls(pool.stratum_urls);

  const last = samples.at(-1);
  if (!last || pool.time_ms - last[0] >= 5000) {
    samples.push([pool.time_ms, pool.hashrate]);
    if (samples.length > 5000) samples.shift();
    draw();
  }
  if (height !== null && height !== pool.height) loadBlocks();
  height = pool.height;
}

function rejects(pool) {
  if (pool.rejected_shares === null) return '';
  const all = Number(pool.accepted_shares) + Number(pool.rejected_shares);
  return `${count(pool.rejected_shares)} rejected${pool.rejected_shares > 0 ? `, ${percent(pool.rejected_shares / all)}` : ''}`;
}

function draw() {
  chart.show(samples, blocks.map((block) => block.time_ms), minutes * 60_000);
  byId('pool-legend-mark').hidden = blocks.length === 0 || chart.crowded;
}

function showBlocks(fresh) {
  byId('blocks').hidden = blocks.length === 0;
  byId('blocks-empty').hidden = blocks.length > 0;
  fill(byId('blocks-rows'), blocks.slice(0, wanted).map((block) => ({
    key: block.hash,
    data: block,
    cells: () => [
      cell('height', count(block.height)),
      cell('hash', hash(block.hash)),
      cell('status', status(block.status, block.confirmations)),
      num('amount', amount(block.reward_msat)),
      cell('by', finder(block.finder)),
      num('age', since(block.time_ms)),
    ],
  })), fresh);
  byId('pool-last-block').replaceChildren(...(blocks.length ? ['last ', since(blocks[0].time_ms), ' ago'] : ['none yet']));
}

function finder({ address, worker }) {
  const link = el('a', { href: `#/miner/${encodeURIComponent(address)}`, class: 'clip', title: worker ? `${address}.${worker}` : address });
  link.textContent = worker || shorten(address, 8, 6);
  return link;
}

function showUrls(list) {
  // A pool that listens on every interface cannot know its name; the reader's address bar does.
  const reachable = list.map((url) => url.replace(/\/\/(0\.0\.0\.0|\[::\])(?=[:/])/, `//${location.hostname}`));
  if (urls === reachable.join()) return;
  urls = reachable.join();
  byId('stratum-urls').replaceChildren(...reachable.map((url) => {
    const copy = el('button', { class: 'copy', type: 'button', 'aria-label': `Copy ${url}`, text: 'Copy' });
    copyOn(copy, () => url);
    return el('li', { class: 'url' }, el('code', { text: url }), copy);
  }));
}
