// One miner's view: what an address has done, and what it is owed.

import { Chart } from './chart.js';
import { byId, copyOn, el, fill, put } from './dom.js';
import { count, difficulty, hashrate, percent, scaled } from './format.js';
import { amount, cell, hash, num, now, since, status } from './rows.js';
import { get } from './source.js';

const EVERY_MS = 3000;
const CREDITS = 100;

let chart;
let shown = null; // { address, stop: AbortController, samples, credits }
let timer = 0;

export function start() {
  chart = new Chart(byId('miner-chart'), { format: hashrate, name: 'Hashrate of this miner over time' });
  copyOn(byId('miner-copy'), () => shown?.address ?? '');
}

/** Turns the view to an address. */
export function open(address) {
  leave();
  shown = { address, stop: new AbortController(), samples: [], first: true };
  byId('miner-known').hidden = true;
  byId('miner-unknown').hidden = true;
  for (const id of ['workers-rows', 'credits-rows', 'payouts-rows']) byId(id).replaceChildren();
  put('miner-address', address);
  chart.show([], [], 1);
  refresh();
}

export function leave() {
  shown?.stop.abort();
  shown = null;
  clearTimeout(timer);
}

/** Reads the address's figures again, now, and from then on every few seconds. */
export async function refresh() {
  const mine = shown;
  if (!mine || mine.busy) return;
  mine.busy = true;
  clearTimeout(timer);
  const path = `api/v1/miners/${encodeURIComponent(mine.address)}`;
  const { signal } = mine.stop;
  try {
    const miner = await get(path, signal);
    const credits = await get(`${path}/credits?limit=${CREDITS}`, signal);
    const payouts = await get(`${path}/payouts?limit=${CREDITS}`, signal);
    if (mine.first) {
      const history = await get(`${path}/hashrate`, signal);
      mine.samples = history.samples.map((sample) => [sample.time_ms, sample.hashrate]);
    }
    if (shown !== mine) return;
    show(miner, credits, payouts, mine);
    mine.first = false;
  } catch (error) {
    if (shown === mine && (error.status === 404 || error.status === 400)) unknown(error.message);
  } finally {
    mine.busy = false;
    if (shown === mine) timer = setTimeout(refresh, EVERY_MS);
  }
}

function unknown(text) {
  put('miner-unknown-text', text);
  byId('miner-unknown').hidden = false;
  byId('miner-known').hidden = true;
}

function show(miner, credits, payouts, mine) {
  byId('miner-unknown').hidden = true;
  byId('miner-known').hidden = false;
  for (const name of ['immature', 'available', 'paid']) {
    const host = byId(`miner-${name}`);
    const msat = String(miner.balance_msat[name]);
    if (host.dataset.msat !== msat) {
      host.dataset.msat = msat;
      host.replaceChildren(amount(msat), ' ', el('span', { class: 'unit', text: 'BTC' }));
    }
  }
  const [figure, prefix] = scaled(miner.hashrate);
  put('miner-hashrate', figure, miner.hashrate);
  put('miner-hashrate-unit', `${prefix}H/s`);
  put('miner-accepted', count(miner.accepted_shares), miner.accepted_shares);
  put('miner-rejected', count(miner.rejected_shares), miner.rejected_shares);
  const online = miner.workers.filter((worker) => worker.connected).length;
  put('miner-workers', count(miner.worker_count), miner.worker_count);
  put('workers-count', `${count(online)} online`);
  showWorkers(miner);
  showCredits(credits.credits, !mine.first);
  showPayouts(payouts.payouts, !mine.first);

  if (!mine.samples.length || now() - mine.samples.at(-1)[0] >= 5000) mine.samples.push([now(), miner.hashrate]);
  chart.show(mine.samples, [], 6 * 3600_000);
}

function showWorkers({ workers, worker_count: all }) {
  byId('workers').hidden = workers.length === 0;
  byId('workers-empty').hidden = workers.length > 0;
  fill(byId('workers-rows'), workers.map((worker) => ({
    key: worker.name,
    data: worker,
    cells: () => [
      cell('name', el('span', { class: 'clip', title: worker.name, text: worker.name || '(no name)' })),
      cell('state', el('span', { class: 'status', 'data-status': worker.connected ? 'online' : 'offline', text: worker.connected ? 'online' : 'offline' })),
      num('rate', hashrate(worker.hashrate)),
      num('accepted', count(worker.accepted_shares), 'accepted'),
      num('rejected', count(worker.rejected_shares), 'rejected'),
      num('difficulty', difficulty(worker.difficulty), 'difficulty'),
      cell('protocol', worker.protocol ?? '–'),
      cell('agent', el('span', { class: 'clip faint', title: worker.agent ?? '', text: worker.agent || '–' })),
      num('last', worker.last_share_ms === null ? '–' : since(worker.last_share_ms)),
    ],
  })));
  if (workers.length < all) put('workers-count', `the first ${count(workers.length)} of ${count(all)}`);
}

function showCredits(credits, fresh) {
  byId('credits').hidden = credits.length === 0;
  byId('credits-empty').hidden = credits.length > 0;
  put('credits-count', credits.length === CREDITS ? `the last ${CREDITS}` : '');
  fill(byId('credits-rows'), credits.map((credit) => ({
    key: credit.block_hash,
    data: credit,
    cells: () => [
      cell('height', count(credit.height)),
      cell('hash', hash(credit.block_hash)),
      cell('status', status(credit.status)),
      num('by', part(credit)),
      num('amount', amount(credit.amount_msat)),
      num('age', since(credit.time_ms)),
    ],
  })), fresh);
}

function showPayouts(payouts, fresh) {
  byId('payouts-card').hidden = payouts.length === 0;
  put('payouts-count', payouts.length === CREDITS ? `the last ${CREDITS}` : '');
  fill(byId('payouts-rows'), payouts.map((payout) => ({
    key: String(payout.payout),
    data: payout,
    cells: () => [
      cell('height', count(payout.payout)),
      cell('hash', hash(payout.txid)),
      cell('status', status(payout.status)),
      num('amount', amount(payout.amount_msat)),
      num('age', since(payout.time_ms)),
    ],
  })), fresh);
}

function part({ work, window_work: all }) {
  return el('span', { title: `${count(work)} of ${count(all)} hashes`, text: BigInt(all) > 0n ? percent(Number(work) / Number(all)) : '–' });
}
