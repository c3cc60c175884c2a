// Starts the page: which view the address bar asks for, and the stream that keeps it live.

import { byId } from './dom.js';
import * as miner from './miner.js';
import * as pool from './pool.js';
import { age } from './rows.js';
import { listen } from './source.js';

const STATES = { connecting: 'Connecting', live: 'Live', disconnected: 'Disconnected' };

/** `#/` is the pool, `#/miner/ADDRESS` a miner. */
function route() {
  const [, address] = /^#\/miner\/([^/]+)$/.exec(location.hash) ?? [];
  byId('view-pool').hidden = Boolean(address);
  byId('view-miner').hidden = !address;
  if (address) {
    miner.open(decode(address));
    document.title = 'Miner · Sluice';
  } else {
    miner.leave();
    document.title = 'Sluice';
  }
  window.scrollTo(0, 0);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

let state = 'connecting';
let lived = false;
function tell(next) {
  if (next === state) return;
  if (next === 'live' && lived) { // back again, and something was missed
    pool.reload();
    miner.refresh();
  }
  state = next;
  lived ||= state === 'live';
  byId('state').dataset.state = state;
  byId('state-text').textContent = STATES[state];
  byId('lost').hidden = state !== 'disconnected';
}

byId('search').addEventListener('submit', (event) => {
  event.preventDefault();
  const address = byId('address').value.trim().split(/[._]/)[0]; // people paste ADDRESS.worker
  if (address) location.hash = `#/miner/${encodeURIComponent(address)}`;
});
window.addEventListener('hashchange', route);

pool.start();
miner.start();
route();
setInterval(age, 1000);
listen('api/v1/events', {
  pool: pool.hear,
  block: () => {
    pool.loadBlocks();
    miner.refresh();
  },
}, tell);
