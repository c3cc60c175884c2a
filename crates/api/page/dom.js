// The few ways in which this page touches the document. Text from outside (worker names, agents, addresses) only
// ever becomes a text node or the value of a harmless attribute; nothing here parses HTML.

export const byId = (id) => document.getElementById(id);

/** A new element. `props` are attributes, but for `text`; children are elements or strings. */
export function el(name, props = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (key === 'text') element.textContent = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Sets the text of the element with this id, and its exact figure in `data-value` where one is given. */
export function put(id, text, value) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
  if (value !== undefined) element.dataset.value = String(value);
}

/**
 * Fills a table body, touching only the rows that changed, so that a selection in the others survives.
 * `rows` are { key, data, cells }: `cells()` gives the <td>s and is called where `data` differs from before.
 * With `fresh`, rows that were not there before light up for a moment.
 */
export function fill(body, rows, fresh = false) {
  const before = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let place = body.firstElementChild;
  for (const { key, data, cells } of rows) {
    const state = JSON.stringify(data);
    let row = before.get(key);
    before.delete(key);
    if (!row) {
      row = el('tr', { 'data-key': key, role: 'row', class: fresh ? 'fresh' : null });
    }
    if (row.state !== state) {
      row.state = state;
      row.replaceChildren(...cells());
    }
    if (row === place) place = place.nextElementSibling;
    else body.insertBefore(row, place);
  }
  for (const row of before.values()) row.remove();
}

/** A button that puts `text` on the clipboard and says so. */
export function copyOn(button, text) {
  button.onclick = async () => {
    let said = 'Copied';
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      said = 'Not allowed'; // pages served over plain HTTP have no clipboard
    }
    button.textContent = said;
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  };
}
