// Moves and scales a picture: drag, pinch, Ctrl and wheel, arrow keys, + - 0. One transform a frame.

/** A frame for a picture; `set` puts another into it and keeps place and scale. `corner`: it begins left above. */
export function frame(label, corner = false) {
  const box = document.createElement('div');
  box.className = 'frame';
  box.tabIndex = 0;
  box.setAttribute('role', 'region');
  box.setAttribute('aria-label', `${label}: arrow keys move, + and - scale, 0 fits`);
  let [picture, x, y, scale, waits, moved] = [null, 0, 0, 1, false, false];
  let still;
  const draw = () => {
    if (waits || !picture) return;
    waits = true;
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
  const fit = () => {
    if (!picture || !box.clientWidth) return;
    const { w, h } = size();
    const whole = Math.min(box.clientWidth / w, box.clientHeight / h);
    // A large picture is not made so small that nothing can be read: its upper middle is shown.
    scale = Math.min(1.25, Math.max(whole, Math.min(0.55, box.clientWidth / 700)));
    x = (box.clientWidth - w * scale) / 2;
    y = Math.max(8, (box.clientHeight - h * scale) / 2);
    if (corner) [x, y] = [whole < scale ? 0 : x, 8];
    draw();
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
    draw();
  });
  for (const end of ['pointerup', 'pointercancel']) box.addEventListener(end, (event) => held.delete(event.pointerId));
  // The end of a drag is no click on the box it ends on.
  box.addEventListener('click', (event) => moved && (event.preventDefault(), event.stopPropagation()), true);
  box.addEventListener('dragstart', (event) => event.preventDefault());
  box.addEventListener('focusin', (event) => event.target !== box && event.target.matches(':focus-visible') && show(event.target));
  box.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) [x, y] = [x + step[0], y + step[1]];
    else if (event.key === '+' || event.key === '=') zoom(1.25);
    else if (event.key === '-') zoom(0.8);
    else if (event.key === '0') fit();
    else return;
    event.preventDefault();
    draw();
  });
  const set = (next) => {
    const first = !picture;
    const task = box.contains(document.activeElement) ? document.activeElement.dataset.task : null;
    box.replaceChildren(next);
    picture = next;
    if (first) requestAnimationFrame(fit);
    else draw();
    if (task) [...box.querySelectorAll('a')].find((one) => one.dataset.task === task)?.focus({ preventScroll: true });
  };
  const buttons = [['−', 'smaller', () => zoom(0.8)], ['+', 'larger', () => zoom(1.25)], ['fit', 'fit the picture', fit]];
  return { box, set, buttons };
}
