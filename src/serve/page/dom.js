// Elements from data. A text is only ever set as text: nothing a model wrote is read as markup.

/** An element with attributes, listeners (`onclick`) and children; null and false children are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'width%') node.style.width = `${value}%`;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false && child !== ''));
  return node;
}

const SVG = 'http://www.w3.org/2000/svg';
const TAGS = new Set(['svg', 'g', 'path', 'rect', 'text', 'tspan', 'title', 'desc', 'a']);
const ATTRIBUTES = new Set(['class', 'd', 'x', 'y', 'dx', 'rx', 'width', 'height', 'transform', 'viewBox', 'role', 'aria-labelledby', 'id']);
const read = globalThis.trustedTypes?.createPolicy('picture', { createHTML: (text) => text }) ?? { createHTML: (text) => text };

/** A picture of this server, made anew from what a picture may consist of. `link` gives where a task's box leads. */
export function picture(text, link) {
  const parsed = new DOMParser().parseFromString(read.createHTML(text), 'image/svg+xml');
  const copy = (from) => {
    if (!TAGS.has(from.localName) || from.namespaceURI !== SVG) return null;
    const to = document.createElementNS(SVG, from.localName);
    for (const { name, value } of from.attributes) {
      if (ATTRIBUTES.has(name)) to.setAttribute(name, value);
      if (name === 'href' && value.startsWith('#task=')) {
        to.dataset.task = value.slice(6);
        to.setAttribute('href', link(value.slice(6)));
      }
    }
    for (const child of from.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) to.append(child.data);
      else if (child.nodeType === Node.ELEMENT_NODE) to.append(copy(child) ?? '');
    }
    return to;
  };
  return copy(parsed.documentElement) ?? el('p', {}, 'The picture could not be read.');
}

/** Of these only what differs within is replaced. No element of them listens. */
const PLAIN = new Set(['DIV', 'SECTION', 'UL', 'OL', 'TABLE', 'THEAD', 'TBODY']);
const alike = (a, b) => PLAIN.has(a.tagName) && a.tagName === b.tagName && a.cloneNode(false).isEqualNode(b.cloneNode(false));

function mend(place, next) {
  const [old, wanted] = [[...place.childNodes], [...next.childNodes]];
  wanted.forEach((node, n) => {
    if (!old[n]) place.append(node);
    else if (old[n].isEqualNode(node)) return;
    else if (alike(old[n], node)) mend(old[n], node);
    else old[n].replaceWith(node);
  });
  for (const node of old.slice(wanted.length)) node.remove();
}

/** Makes a place show this. What stands there already stays, with its focus, scroll and selection; an element that is
 * replaced hands the focus and what is unfolded to the one with its `data-key`. */
export function put(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const open = new Map([...place.querySelectorAll('details[data-key]')].map((one) => [one.dataset.key, one.open]));
  const next = place.cloneNode(false);
  next.append(...children.flat(9).filter(Boolean));
  for (const one of next.querySelectorAll('details[data-key]')) {
    if (open.has(one.dataset.key)) one.open = open.get(one.dataset.key);
    if (one.open) one.fill?.();
  }
  mend(place, next);
  if (focused && !focused.isConnected && focused.dataset.key) place.querySelector(`[data-key="${CSS.escape(focused.dataset.key)}"]`)?.focus({ preventScroll: true });
}

export const money = (usd) => (!usd ? '$0' : usd < 0.01 ? '<$0.01' : `$${usd.toFixed(2)}`);
export const short = (n) => (n < 10000 ? `${n}` : n < 1e7 ? `${Math.round(n / 1000)}k` : `${(n / 1e6).toFixed(1)}M`);
export function span(seconds) {
  if (seconds === null || seconds === undefined) return '';
  if (seconds < 0.95) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
  return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
}
export const when = (utc) => (utc ? `${utc.slice(0, 10)} ${utc.slice(11, 19)} UTC` : '');
export function ago(utc) {
  const seconds = (Date.now() - Date.parse(utc)) / 1000;
  if (!(seconds >= 0)) return '';
  return seconds < 172800 ? `${span(Math.max(10, seconds))} ago` : `${Math.floor(seconds / 86400)} days ago`;
}
