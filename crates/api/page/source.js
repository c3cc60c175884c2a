// Where the figures come from: one request each, and one stream of events that comes back by itself.

/** JSON in which integers too long for a float stay exact, as strings of digits. */
export function parse(text) {
  const tokens = /"(?:[^"\\]|\\.)*"|-?\d+(\.\d+)?([eE][+-]?\d+)?/g;
  return JSON.parse(text.replace(tokens, (token, fraction, exponent) =>
    token[0] !== '"' && !fraction && !exponent && token.length > 15 ? `"${token}"` : token));
}

/** GET of an API path. Throws an Error with the server's own words and its `status`; status 0: no answer. */
export async function get(path, signal) {
  let response;
  try {
    response = await fetch(path, { signal, headers: { accept: 'application/json' } });
  } catch (cause) {
    throw Object.assign(new Error('the pool does not answer', { cause }), { status: 0 });
  }
  const text = await response.text();
  let body = {};
  try {
    body = parse(text);
  } catch {
    if (response.ok) throw Object.assign(new Error('the answer is not JSON'), { status: response.status });
  }
  if (!response.ok) throw Object.assign(new Error(body.error ?? response.statusText), { status: response.status });
  return body;
}

const SILENCE_MS = 10_000; // events come every second; this long without one and the line is dead
const RETRY_MS = [1000, 2000, 4000, 8000];

/**
 * Listens to the pool's events for as long as the page is seen. `on` maps an event's name to a function of its data;
 * `onState` hears 'connecting', 'live' and 'disconnected'.
 */
export function listen(path, on, onState) {
  let stream = null;
  let watchdog = 0;
  let retry = 0;
  let failures = 0;

  const close = () => {
    clearTimeout(watchdog);
    clearTimeout(retry);
    stream?.close();
    stream = null;
  };
  const fail = () => {
    close();
    onState('disconnected');
    retry = setTimeout(open, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
    failures += 1;
  };
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(fail, SILENCE_MS);
  };
  const open = () => {
    close();
    if (failures === 0) onState('connecting');
    stream = new EventSource(path);
    stream.onerror = fail;
    for (const [name, hear] of Object.entries(on)) {
      stream.addEventListener(name, (event) => {
        heard();
        failures = 0;
        onState('live');
        hear(parse(event.data));
      });
    }
    heard();
  };

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) close();
    else if (!stream) open();
  });
  open();
}
