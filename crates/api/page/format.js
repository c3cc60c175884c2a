// Figures as people read them. Money never passes through a float: it is a BigInt from the wire to the screen.

const UNITS = ['', 'k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'];

/** Millisatoshi (a number, or digits as a string) as bitcoin with all 11 decimals. */
export function bitcoin(msat) {
  const value = BigInt(msat);
  const digits = (value < 0n ? -value : value).toString().padStart(12, '0');
  return `${value < 0n ? '−' : ''}${digits.slice(0, -11)}.${digits.slice(-11)}`;
}

/** A number with an SI prefix, as [figure, prefix]: 1234567 is ["1.23", "M"]. */
export function scaled(value) {
  if (!Number.isFinite(value)) return ['–', ''];
  let step = 0;
  let rest = Math.abs(value);
  while (rest >= 999.5 && step < UNITS.length - 1) {
    rest /= 1000;
    step += 1;
  }
  const decimals = rest === 0 || (step === 0 && Number.isInteger(value)) ? 0 : rest < 10 ? 2 : rest < 100 ? 1 : 0;
  return [(value < 0 ? -rest : rest).toFixed(decimals), UNITS[step]];
}

/** Hashes a second, in one string: "1.23 MH/s". */
export function hashrate(value) {
  const [figure, prefix] = scaled(value);
  return `${figure} ${prefix}H/s`;
}

/** A difficulty: "0.0011", "1.02 k", "126 T". */
export function difficulty(value) {
  if (value === null || value === undefined) return '–';
  if (value > 0 && value < 1) return value.toPrecision(2);
  const [figure, prefix] = scaled(value);
  return prefix ? `${figure} ${prefix}` : figure;
}

/** An integer with thousands set apart. Takes digits of any length. */
export function count(value) {
  return value === null || value === undefined ? '–' : BigInt(value).toLocaleString('en').replaceAll(',', '\u202f');
}

/** A ratio in per cent. */
export function percent(ratio) {
  const value = ratio * 100;
  return `${value.toFixed(value !== 0 && value < 10 ? (value < 0.1 ? 3 : 1) : 0)} %`;
}

/** A span of time in its one or two largest units. */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes < 10 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d`;
}

/** The middle left out: people compare the ends. */
export function shorten(text, head, tail) {
  return text.length <= head + tail + 1 ? text : `${text.slice(0, head)}…${text.slice(-tail)}`;
}

/** Hour and minute, with seconds where the chart is close enough to need them. */
export function clock(ms, seconds) {
  return new Date(ms).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: seconds ? '2-digit' : undefined, hour12: false });
}
