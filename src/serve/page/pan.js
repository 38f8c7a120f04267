// Moves and scales a picture: drag, pinch, Ctrl and wheel, arrow keys, + - 0. One transform a frame.

/** From this scale on the names of tasks can be read. */
const READABLE = 0.85;

/** A frame for a picture; `set` puts another into it and keeps place and scale. */
export function frame(label) {
  const box = document.createElement('div');
  box.className = 'frame';
  box.tabIndex = 0;
  box.setAttribute('role', 'region');
  box.setAttribute('aria-label', `${label}: arrow keys move, + and - scale, 0 fits`);
  let [picture, x, y, scale, waits, moved] = [null, 0, 0, READABLE, false, false];
  let still;
  let byHand = () => {};
  const draw = (smooth = false) => {
    if (waits || !picture) return;
    waits = true;
    box.classList.toggle('smooth', smooth);
    // Moved as it is; drawn sharp once it rests.
    box.classList.add('moving');
    clearTimeout(still);
    still = setTimeout(() => box.classList.remove('moving'), 150);
    requestAnimationFrame(() => {
      waits = false;
      picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    });
  };
  const size = () => ({ w: Number(picture.getAttribute('width')), h: Number(picture.getAttribute('height')) });
  /** All of it, as far as it can be told apart. */
  const fit = () => {
    if (!picture || !box.clientWidth) return;
    const { w, h } = size();
    scale = Math.min(1.25, Math.max(0.03, Math.min(box.clientWidth / (w + 16), box.clientHeight / (h + 16))));
    x = (box.clientWidth - w * scale) / 2;
    y = Math.max(8, (box.clientHeight - h * scale) / 2);
    draw();
  };
  /** Parts in the middle of the frame, at a scale at which they can be read. */
  const centre = (parts, smooth) => {
    if (!picture || !parts.length || !box.clientWidth) return;
    const { w, h } = size();
    if (Math.min(box.clientWidth / w, box.clientHeight / h) >= READABLE) return fit();
    scale = Math.max(scale, READABLE);
    const of = picture.getBoundingClientRect();
    const by = Number(picture.getAttribute('width')) / (of.width || 1);
    const rects = parts.map((part) => part.getBoundingClientRect());
    const middle = (from, to, origin) => ((Math.min(...rects.map((rect) => rect[from])) + Math.max(...rects.map((rect) => rect[to]))) / 2 - origin) * by;
    x = box.clientWidth / 2 - middle('left', 'right', of.left) * scale;
    y = Math.min(8, box.clientHeight / 2 - middle('top', 'bottom', of.top) * scale);
    if (w * scale < box.clientWidth) x = (box.clientWidth - w * scale) / 2;
    draw(smooth);
  };
  const zoom = (by, cx = box.clientWidth / 2, cy = box.clientHeight / 2) => {
    const to = Math.min(4, Math.max(0.03, scale * by));
    [x, y] = [cx - ((cx - x) * to) / scale, cy - ((cy - y) * to) / scale];
    scale = to;
    draw();
  };
  const show = (node) => {
    const [at, of] = [node.getBoundingClientRect(), box.getBoundingClientRect()];
    if (at.left < of.left || at.right > of.right) x += of.left + of.width / 2 - (at.left + at.width / 2);
    if (at.top < of.top || at.bottom > of.bottom) y += of.top + of.height / 2 - (at.top + at.height / 2);
    draw();
  };
  box.addEventListener('wheel', (event) => {
    event.preventDefault();
    const of = box.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY / 200), event.clientX - of.left, event.clientY - of.top);
    else [x, y] = [x - event.deltaX, y - event.deltaY];
    byHand();
    draw();
  }, { passive: false });
  const held = new Map();
  box.addEventListener('pointerdown', (event) => {
    held.set(event.pointerId, event);
    moved = false;
  });
  box.addEventListener('pointermove', (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    if (!moved) box.setPointerCapture(event.pointerId);
    moved = true;
    if (held.size === 2) {
      const other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
      const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const of = box.getBoundingClientRect();
      zoom(far(event) / Math.max(1, far(before)), other.clientX - of.left, other.clientY - of.top);
    } else {
      [x, y] = [x + dx, y + dy];
    }
    held.set(event.pointerId, event);
    byHand();
    draw();
  });
  for (const end of ['pointerup', 'pointercancel']) box.addEventListener(end, (event) => held.delete(event.pointerId));
  // The end of a drag is no click on the box it ends on.
  box.addEventListener('click', (event) => moved && (event.preventDefault(), event.stopPropagation()), true);
  box.addEventListener('dragstart', (event) => event.preventDefault());
  box.addEventListener('focusin', (event) => event.target !== box && event.target.matches(':focus-visible') && (byHand(), show(event.target)));
  box.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) [x, y] = [x + step[0], y + step[1]];
    else if (event.key === '+' || event.key === '=') zoom(1.25);
    else if (event.key === '-') zoom(0.8);
    else if (event.key === '0') fit();
    else return;
    byHand();
    event.preventDefault();
    draw();
  });
  const set = (next) => {
    const first = !picture;
    const task = box.contains(document.activeElement) ? document.activeElement.dataset.task : null;
    box.replaceChildren(next);
    picture = next;
    if (!first) draw();
    if (task) [...box.querySelectorAll('a')].find((one) => one.dataset.task === task)?.focus({ preventScroll: true });
  };
  const hand = (act) => () => { byHand(); act(); };
  const buttons = [['−', 'smaller', hand(() => zoom(0.8))], ['+', 'larger', hand(() => zoom(1.25))], ['whole', 'all of the picture', hand(fit)]];
  return { box, set, buttons, centre, ours: (then) => { byHand = then; } };
}
