// The views: each gives its root, and how it is brought up to date.
import { ago, el, money, picture, put, short, span, when } from './dom.js';
import { frame } from './pan.js';

export const PHASES = { completed: 'done', running: 'run', failed: 'fail', never_started: 'off' };
const TONES = { done: 'done', edited: 'done', running: 'run', merging: 'run', failed: 'fail', waiting: 'wait', stopped: 'wait', blocked: 'off', skipped: 'off', pending_eval: 'pend', stale: 'pend', pending: 'todo', failed_pending_eval: 'warn', damaged: 'warn' };
const GLYPHS = { done: '✓', edited: '✎', running: '▶', merging: '▶', failed: '✗', blocked: '-', skipped: '-', waiting: '=', stopped: '=', pending_eval: '?', failed_pending_eval: '!', damaged: '!', stale: '·', pending: '·' };
const ORDER = Object.keys(GLYPHS);
const words = (state) => state.replaceAll('_', ' ');
const sign = (state) => el('span', { class: `s s-${TONES[state]}` }, `${GLYPHS[state]} ${words(state)}`);
const quoted = (name) => (/^[\w./:@%+-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`);
const command = (C, words) => C.S.status && el('code', {}, `planexe -C ${quoted(C.S.status.run.dir)} ${words}`);
const section = (title, ...rest) => el('section', {}, el('h2', {}, title), ...rest);
const scroll = (label, ...rest) => {
  // The region is what is moved by keys, the table what is read: both are named.
  for (const one of rest) if (one.tagName === 'TABLE') one.setAttribute('aria-label', label);
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label }, ...rest);
};
const message = (text) => (typeof text === 'string' ? text : [text?.text, ...(text?.hints ?? [])].filter(Boolean).join('\n'));
const failed = (failure) => failure && `${failure.class}: ${message(failure.message)}`;

function button(C, name, body, more = {}) {
  const { sure, ...attributes } = more;
  return el('button', {
    type: 'button',
    'data-key': JSON.stringify(body),
    title: C.S.about.allow_changes ? null : 'this page only looks; planexe ui --allow-changes',
    disabled: !C.S.about.allow_changes,
    onclick: async (event) => {
      if (sure && !confirm(sure)) return;
      event.target.disabled = true;
      await C.wish(body);
      event.target.disabled = false;
    },
    ...attributes,
  }, name);
}

/** What was done, in words. */
export function told(wish, answer) {
  if (wish.do === 'done') return answer.passed?.length ? `${answer.passed.join(', ')}: noted; ${answer.build_runs ? 'the running build continues with it' : 'Build continues with it'}` : 'it was done already';
  if (wish.do === 'retry') return `tried again: ${(answer.tasks ?? []).join(', ') || 'nothing'}`;
  if (wish.do === 'restore') return 'restored';
  if (wish.do === 'edit-plan') return 'the plan has its new text';
  return 'done';
}

/** Buttons of the whole run. */
export function controls(C) {
  const { phase, pid } = C.S.status.run;
  const able = C.S.about.allow_changes;
  if (!able) return el('span', { class: 'sub' }, 'read-only');
  if (pid && phase === 'paused') return [button(C, 'Resume', { do: 'build' }), button(C, 'Stop', { do: 'stop' })];
  if (pid) return [button(C, 'Pause', { do: 'pause' }), button(C, 'Stop', { do: 'stop' })];
  return button(C, 'Build', { do: 'build' }, { class: 'first' });
}

/** All runs of a folder. */
export function runs(C) {
  const place = el('div', {}, 'reading the runs…');
  const row = (run) => el('tr', {},
    el('td', {}, el('a', { href: `#run=${encodeURIComponent(run.plan_id)}`, 'data-key': run.plan_id }, run.label || run.plan_id), run.label && run.label !== run.plan_id && el('div', { class: 'sub' }, run.plan_id)),
    el('td', {}, el('span', { class: `s s-${PHASES[run.phase] ?? (run.phase ? 'wait' : 'fail')}` }, run.phase ? words(run.phase) : 'unreadable')),
    el('td', { class: 'n' }, `${run.steps_completed} of ${run.steps_total}`, el('div', { class: 'bar small', 'aria-hidden': 'true' }, el('i', { class: 'b-done', 'width%': (100 * run.steps_completed) / (run.steps_total || 1) }))),
    el('td', { class: 'n' }, run.cost_usd ? money(run.cost_usd) : ''),
    el('td', { class: 'n' }, ago(run.last_progress_at ?? run.created_utc)),
    el('td', { class: 'sub wide' }, run.problem ?? run.prompt_excerpt ?? ''));
  return {
    root: place,
    async load() {
      const list = await C.json('runs');
      const head = ['run', 'state', 'tasks', 'cost', 'last moved', 'plan'].map((name, at) => el('th', { scope: 'col', class: at > 1 && at < 5 ? 'n' : at === 5 && 'wide' }, name));
      put(place, el('p', { class: 'sub' }, `${list.total} ${list.total === 1 ? 'run' : 'runs'} in ${list.root}`),
        list.runs.length ? scroll('Runs', el('table', {}, el('thead', {}, el('tr', {}, head)), el('tbody', {}, list.runs.map(row)))) : el('p', {}, 'There is no run in this folder.'));
    },
  };
}

function card(value, name, tone) {
  return el('li', {}, el('b', { class: tone && `s-${tone}` }, value), el('span', {}, name));
}

/** States as a bar of their shares. */
function bar(counts, small) {
  const states = ORDER.filter((state) => counts[state] > 0);
  const all = states.reduce((sum, state) => sum + counts[state], 0) || 1;
  return el('div', { class: small ? 'bar small' : 'bar', 'aria-hidden': 'true' }, states.map((state) => el('i', { class: `b-${TONES[state]}`, 'width%': (100 * counts[state]) / all })));
}

function cards(C) {
  const { status } = C.S;
  const sum = (of) => status.tasks.reduce((sum, task) => sum + (task.family ? 0 : task.usage?.[of] ?? 0), 0);
  return [
    el('ul', { class: 'cards', 'aria-label': 'At a glance' },
      card(words(status.run.phase), 'state', PHASES[status.run.phase] ?? 'wait'),
      card(`${status.steps_completed} of ${status.steps_total}`, 'tasks complete'),
      status.eta_s !== null && card(span(status.eta_s), 'to go, about'),
      status.counts.running > 0 && card(`${status.counts.running}`, 'running now', 'run'),
      status.counts.failed > 0 && card(`${status.counts.failed}`, 'failed', 'fail'),
      status.counts.waiting > 0 && card(`${status.counts.waiting}`, status.counts.waiting === 1 ? 'waits for a person' : 'wait for a person', 'wait'),
      card(money(status.cost_usd), 'cost so far'),
      card(`${short(sum('input_tokens'))} + ${short(sum('output_tokens'))}`, `tokens in ${short(sum('calls'))} calls`)),
    bar(status.counts),
    el('ul', { class: 'key', 'aria-label': 'Tasks by state' }, ORDER.filter((state) => status.counts[state] > 0).map((state) => el('li', {}, sign(state), ` ${status.counts[state]}`)), status.tasks.some((task) => task.family) && el('li', { class: 'sub' }, 'each item of a fan-out counted')),
  ];
}

function wanting(C) {
  const tasks = C.S.status.tasks;
  const families = new Set(tasks.map((task) => task.family).filter(Boolean));
  const wants = tasks.filter((task) => ['failed', 'waiting', 'damaged'].includes(task.state) && !families.has(task.task));
  const one = (task) => el('div', { class: `note ${task.state === 'waiting' ? 'wait' : 'fail'}` },
    el('p', {}, sign(task.state), ' ', el('a', { href: C.link('task', { task: task.task }), 'data-key': `w ${task.task}` }, task.task)),
    el('p', { class: 'lines' }, task.state === 'waiting' ? task.doing : failed(task.failure) ?? task.reasons.map((reason) => reason.message).join('; ')),
    el('p', { class: 'row' },
      task.state === 'waiting' ? button(C, task.recipe === 'gate' ? 'Let it pass' : 'Done', { do: 'done', task: task.task }, { class: 'first' }) : button(C, 'Retry', { do: 'retry', task: task.task }, { class: 'first' }),
      command(C, `${task.state === 'waiting' ? 'done' : 'retry'} ${quoted(task.task)}`)));
  return { count: wants.length, nodes: [wants.slice(0, 50).map(one), wants.length > 50 && el('p', { class: 'sub' }, `${wants.length - 50} more`)] };
}

function running(C) {
  const now = C.S.status.tasks.filter((task) => task.state === 'running' && (task.phase || task.started_utc) && !task.no_items);
  const families = new Set(C.S.status.tasks.map((task) => task.family).filter(Boolean));
  const rows = now.filter((task) => !families.has(task.task)).sort((a, b) => (b.elapsed_s ?? 0) - (a.elapsed_s ?? 0));
  if (!rows.length) return null;
  const one = (task) => el('tr', {},
    el('td', {}, el('span', { class: 's s-run', 'aria-hidden': 'true' }, '▶ '), el('a', { href: C.link('task', { task: task.task }), 'data-key': `r ${task.task}` }, task.task), task.doing && el('div', { class: 'sub' }, task.doing)),
    el('td', { class: 'sub short' }, task.model ?? '', task.attempt > 1 && ` · attempt ${task.attempt}`),
    el('td', { class: 'n' }, task.elapsed_s !== null ? span(task.elapsed_s) : '', task.expected_s ? ` of ${span(task.expected_s)}` : '',
      task.expected_s > 0 && el('div', { class: 'bar small', 'aria-hidden': 'true' }, el('i', { class: 'b-run', 'width%': Math.min(100, (100 * task.elapsed_s) / task.expected_s) }))));
  const head = el('thead', { class: 'visually-hidden' }, el('tr', {}, ['task', 'model', 'time'].map((name) => el('th', { scope: 'col' }, name))));
  return section('Running now', scroll('Running now', el('table', {}, head, el('tbody', {}, rows.slice(0, 60).map(one)))));
}

/** What a task came to: model, tokens, cost, time. */
function came(task) {
  const { input_tokens = 0, output_tokens = 0, cost_usd = 0 } = task.usage ?? {};
  return [
    el('span', { class: 'col' }, task.model ?? ''),
    el('span', { class: 'col n' }, input_tokens + output_tokens > 0 && `${short(input_tokens)} + ${short(output_tokens)}`),
    el('span', { class: 'col n' }, cost_usd > 0 && money(cost_usd)),
    el('span', { class: 'n end' }, task.duration_s > 0.001 && span(task.duration_s)),
  ];
}

/** The tasks; items of a fan-out are made when it is unfolded. */
function tasks(C, filter) {
  const all = C.S.status.tasks;
  const items = new Map();
  for (const task of all) if (task.family) items.has(task.family) ? items.get(task.family).push(task) : items.set(task.family, [task]);
  const row = (task) => el('li', { class: 'task' },
    sign(task.state), el('span', { class: 'name' }, el('a', { href: C.link('task', { task: task.task }), 'data-key': `t ${task.task}` }, task.task), ' ', el('span', { class: 'sub' }, task.recipe ?? '')), came(task));
  const list = (of) => [of.slice(0, 400).map(row), of.length > 400 && el('li', { class: 'sub' }, `${of.length - 400} more; search for them`)];
  const head = el('div', { class: 'task heads', 'aria-hidden': 'true' }, ['state', 'task', 'model', 'tokens in + out', 'cost', 'time'].map((name, n) => el('span', { class: n === 2 ? 'col' : n > 2 ? `n${n < 5 ? ' col' : ' end'}` : null }, name)));
  if (filter) {
    const wanted = filter.toLowerCase();
    const found = all.filter((task) => task.task.toLowerCase().includes(wanted) || words(task.state).includes(wanted));
    return [head, el('ul', { class: 'tasks', 'aria-label': 'Tasks found' }, list(found), !found.length && el('li', {}, 'no task has this name or state'))];
  }
  return [head, el('ul', { class: 'tasks', 'aria-label': 'Tasks' }, all.filter((task) => !task.family).map((task) => {
    const of = items.get(task.task);
    if (!of) return row(task);
    const counts = {};
    for (const one of of) counts[one.state] = (counts[one.state] ?? 0) + 1;
    const inner = el('ul', { class: 'tasks', 'aria-label': `Items of ${task.task}` });
    const fill = () => inner.childNodes.length || inner.append(...list(of).flat().filter(Boolean));
    const more = el('details', { class: 'fan', 'data-key': `d ${task.task}`, ontoggle: (event) => event.target.open && fill() },
      el('summary', { class: 'task', 'data-key': `s ${task.task}` }, sign(task.state), el('span', { class: 'name' }, el('b', {}, task.task), ' ', el('span', { class: 'sub' }, `${task.recipe} × ${of.length}: ${ORDER.filter((state) => counts[state]).map((state) => `${counts[state]} ${words(state)}`).join(', ')}`), bar(counts, true)), came(task)), inner);
    more.fill = fill;
    return el('li', {}, more);
  }))];
}

const happened = (C, event) => el('li', {}, el('span', { class: 'sub' }, event.timestamp_utc.slice(11, 19)), ' ', el('b', { class: TOLD[event.event.split('.')[1]] && `s-${TOLD[event.event.split('.')[1]]}` }, event.event), ' ', event.task ? el('a', { href: C.link('task', { task: event.task }) }, event.task) : null, ' ',
  el('span', { class: 'lines' }, [event.doing, event.next, failed(event.failure), event.message && message(event.message), event.duration_s && span(event.duration_s)].filter(Boolean).join(' · ')));
const TOLD = { completed: 'done', rescued: 'done', started: 'run', failed: 'fail', waiting: 'wait', stopped: 'wait' };

export function overview(C) {
  const [top, next, now, last, list] = [el('div'), el('div'), el('div'), el('div'), el('div')];
  let [filter, seen] = ['', ''];
  const search = el('input', { type: 'search', placeholder: 'name or state ( / )', 'aria-label': 'Search the tasks', oninput: (event) => { filter = event.target.value; seen = ''; draw(); } });
  const root = el('div', {}, top, next, el('div', { class: 'pair' }, now, last), section('Tasks', search, list));
  const latest = () => {
    const events = C.S.events.slice(-10).reverse();
    put(last, events.length > 0 && section('Latest', el('ol', { class: 'log brief', 'aria-live': 'off', 'aria-label': 'Latest events' }, events.map((event) => happened(C, event)))));
  };
  function draw() {
    const { status } = C.S;
    if (!status) return put(top, el('p', { class: 'sub' }, 'reading the run…'));
    put(top, el('p', { class: 'sub' }, [status.run.pipeline, status.run.dir, status.run.started_utc && `started ${when(status.run.started_utc)}`, status.run.models.join(', ')].filter(Boolean).join(' · ')), cards(C));
    const wants = wanting(C);
    put(next, wants.count > 0 && section('What to do', wants.nodes), !wants.count && status.error && section('What to do', el('div', { class: 'note fail' }, el('p', { class: 'lines' }, `${status.error.failed_step}: ${message(status.error.message)}`), el('code', {}, status.error.next))));
    put(now, running(C));
    latest();
    const looks = filter + status.tasks.map((task) => `${task.task}${task.state}${task.duration_s}${task.usage?.cost_usd}`).join();
    if (looks !== seen) {
      seen = looks;
      put(list, tasks(C, filter));
    }
  }
  let waits = null;
  return { root, update: draw, past: () => { waits ??= setTimeout(() => { waits = null; latest(); }, 50); }, event: () => { if (C.S.status) { recount(C); draw(); } } };
}

function recount(C) {
  const families = new Set(C.S.status.tasks.map((task) => task.family).filter(Boolean));
  for (const state of ORDER) C.S.status.counts[state] = 0;
  for (const task of C.S.status.tasks) if (!families.has(task.task)) C.S.status.counts[task.state] += 1;
}

/** Asks for a picture, and shows it unless it is the one that is shown; one request at a time. */
function fetched(C, name, show) {
  let [last, waits, asks] = ['', null, null];
  async function draw() {
    let [of, text] = [null, null];
    // Another was wanted meanwhile: that one, too.
    while (of !== JSON.stringify(name())) {
      of = JSON.stringify(name());
      text = await C.text(...name());
    }
    if (text === last) return;
    last = text;
    show(picture(text, (task) => C.link('task', { task })));
  }
  const load = () => {
    clearTimeout(waits);
    waits = null;
    return (asks ??= draw().finally(() => (asks = null)));
  };
  return { load, later: (wait) => { waits ??= setTimeout(() => load().catch(() => {}), wait); } };
}

const tool = ([text, what, act, more = {}]) => el('button', { type: 'button', 'aria-label': what, title: what, onclick: act, ...more }, text);

export function graph(C) {
  const { box, set, buttons, centre, ours } = frame('Graph');
  const key = el('ul', { class: 'key', 'aria-label': 'Tasks by state' });
  let follows = true;
  const follow = el('button', { type: 'button', 'aria-pressed': 'true', title: 'keep what runs in view', onclick: () => { follows = !follows; follow.setAttribute('aria-pressed', follows); at(true); } }, 'follow');
  const root = el('div', {}, el('div', { class: 'row spread' }, el('p', { class: 'sub' }, 'Each task stands below those it needs. The orange line is the critical path.'), el('div', { class: 'row' }, buttons.map(tool), follow)), key, box);
  box.append(el('p', { class: 'sub' }, 'drawing…'));
  // What moves the picture by hand ends the following.
  ours(() => { follows = false; follow.setAttribute('aria-pressed', 'false'); });
  function at(smooth) {
    if (!follows) return;
    const found = (tone) => [...box.querySelectorAll(`.box.t-${tone}`)];
    centre([found('run'), found('wait'), found('fail'), found('warn')].find((of) => of.length) ?? [...box.querySelectorAll('.box')].slice(0, 1), smooth);
  }
  const view = fetched(C, () => ['graph.svg'], (next) => { const first = !box.querySelector('svg'); set(next); requestAnimationFrame(() => at(!first)); });
  return {
    root,
    load: view.load,
    update() {
      if (C.S.status) put(key, ORDER.filter((state) => C.S.status.counts[state]).map((state) => el('li', {}, sign(state), ` ${C.S.status.counts[state]}`)));
    },
    event(event) {
      // The box at once, the rest with the next picture.
      const task = [...box.querySelectorAll('a')].find((one) => one.dataset.task === event.task);
      const state = C.S.states.get(event.task);
      if (!task || !state) return;
      for (const part of task.querySelectorAll('.box[class*=" t-"], .side, .sign')) {
        part.setAttribute('class', part.getAttribute('class').replace(/\b(t|fill)-\w+/, `$1-${TONES[state]}`));
        if (part.localName === 'text') part.textContent = GLYPHS[state];
      }
      at(true);
    },
  };
}

export function timeline(C) {
  const box = el('div', { class: 'scroll times', tabindex: 0, role: 'region', 'aria-label': 'Timeline: arrow keys move, + and - stretch it' }, el('p', { class: 'sub' }, 'drawing…'));
  let wide = 0;
  const shown = () => Math.max(720, box.clientWidth - 2);
  const view = fetched(C, () => ['timeline.svg', { width: (wide = Math.max(wide, shown())) }], (next) => {
    const [before, middle] = [box.querySelector('svg')?.getAttribute('width'), box.scrollLeft + box.clientWidth / 2];
    // The names of the rows stay where they are seen: a picture of their own, over the other.
    const names = next.cloneNode(false);
    names.append(next.querySelector('.rows'));
    for (const [name, value] of [['width', 68], ['viewBox', `0 0 68 ${next.getAttribute('height')}`], ['class', 'timeline names'], ['aria-hidden', 'true']]) names.setAttribute(name, value);
    box.replaceChildren(el('div', { class: 'over' }, next, names));
    if (before) box.scrollLeft = (middle / before) * next.getAttribute('width') - box.clientWidth / 2;
  });
  const stretch = (by) => { wide = by ? Math.min(24000, Math.max(shown(), wide * by)) : shown(); view.load().catch(() => {}); };
  box.addEventListener('keydown', (event) => {
    const by = { '+': 2, '=': 2, '-': 0.5, 0: 0 }[event.key];
    if (by !== undefined && !event.ctrlKey && !event.metaKey) stretch(by);
  });
  box.addEventListener('wheel', (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    stretch(event.deltaY < 0 ? 1.5 : 1 / 1.5);
  }, { passive: false });
  const tools = [['−', 'shorter', () => stretch(0.5)], ['+', 'longer', () => stretch(2)], ['fit', 'as wide as the page', () => stretch(0)]];
  const key = el('ul', { class: 'key', 'aria-label': 'Colours' }, [['done', 'done'], ['run', 'running'], ['fail', 'failed'], ['off', 'ended early']].map(([tone, name]) => el('li', {}, el('i', { class: `b-${tone}` }), name)), el('li', {}, el('i', { class: 'frames' }), 'attempt, with its calls within'), el('li', {}, el('i', { class: 'dashes' }), 'wait'), el('li', {}, el('i', { class: 'asks' }), 'wait for a person'), el('li', {}, el('i', { class: 'cut' }), 'nothing ran: cut short'));
  return {
    root: el('div', {}, el('div', { class: 'row spread' }, el('p', { class: 'sub' }, 'Who ran when, by slot; waits stand apart, and below is the cost by then.'), el('div', { class: 'row' }, tools.map(tool))), key, box),
    load: view.load,
    event: () => view.later(500),
  };
}

export function failures(C) {
  const [next, list] = [el('div'), el('div', {}, el('p', { class: 'sub' }, 'reading the attempts…'))];
  return {
    root: el('div', {}, next, list),
    update() {
      if (!C.S.status) return;
      const wants = wanting(C);
      put(next, section('What to do', wants.count ? wants.nodes : el('p', {}, 'Nothing failed, and nobody is waited for.'), C.S.status.counts.failed > 1 && button(C, 'Retry all that failed', { do: 'retry' })));
    },
    async load() {
      const told = await C.json('failures');
      const row = (one) => el('tr', {}, el('td', { class: 'n' }, when(one.timestamp_utc)), el('td', {}, el('a', { href: C.link('task', { task: one.task }) }, one.task)), el('td', {}, one.class), el('td', {}, one.model ?? ''), el('td', { class: 'lines' }, message(one.message)));
      const head = ['when', 'task', 'class', 'model', 'what was said'].map((name) => el('th', { scope: 'col' }, name));
      put(list, told.failures.length > 0 && section('Failed attempts', el('p', { class: 'sub' }, Object.entries(told.by_class).map(([name, count]) => `${count} ${name}`).join(', ')),
        scroll('Failed attempts', el('table', {}, el('thead', {}, el('tr', {}, head)), el('tbody', {}, told.failures.slice(-200).reverse().map(row))))));
    },
  };
}

function diffed(text) {
  return el('pre', { tabindex: 0 }, text.split('\n').map((line) => el('span', { class: line[0] === '+' ? 'add' : line[0] === '-' ? 'del' : null }, `${line}\n`)));
}

const fold = (key, title, open, ...rest) => el('details', { 'data-key': key, open }, el('summary', {}, title), el('div', { class: 'room' }, ...rest));
const block = (text) => el('pre', { tabindex: 0 }, text);

/** A prompt, with what came from an input marked by the input's name. */
function parted(text, parts) {
  const lines = text.split('\n');
  const pieces = [];
  let at = 0;
  for (const { input, first_line, last_line } of parts ?? []) {
    if (first_line - 1 < at || first_line > lines.length) continue;
    pieces.push(lines.slice(at, first_line - 1).map((line) => `${line}\n`).join(''));
    pieces.push(el('span', { class: 'from' }, el('b', {}, input), lines.slice(first_line - 1, last_line).join('\n')));
    at = last_line;
  }
  return el('pre', { tabindex: 0 }, pieces, lines.slice(at).join('\n'));
}

export function task(C, at) {
  const name = at.get('task');
  const root = el('div', {}, el('p', { class: 'sub' }, 'reading the task…'));
  let [busy, more, last] = [false, false, ''];
  async function load() {
    if (busy) return (more = true);
    busy = true;
    try {
      const room = await C.json('task', { task: name });
      const looks = JSON.stringify(room);
      if (looks !== last) put(root, draw(room));
      last = looks;
    } catch (error) {
      put(root, el('h2', {}, name), el('div', { class: 'note fail' }, el('p', { class: 'lines' }, error.message)));
    }
    busy = false;
    if (more) (more = false), setTimeout(load, 150);
  }
  function draw({ task, explain, show, live, changed, versions, needs }) {
    const used = task?.usage;
    const to = (one, words = one) => el('a', { href: C.link('task', { task: one }) }, words);
    const why = [
      ...explain.reasons.map((reason) => reason.message),
      explain.blocked_by.length > 0 && `blocked by ${explain.blocked_by.join(', ')}`,
      explain.depends_on.length > 0 && `depends on ${explain.depends_on.join(', ')}`,
      explain.warning && `warning: ${explain.warning}`,
      failed(explain.failure),
      explain.completed_utc && `completed ${when(explain.completed_utc)}${explain.by ? ` by ${explain.by_user ?? explain.by}` : ''}`,
      task?.eval && `evaluator: score ${task.eval.score ?? 'not known'}`,
      ...explain.next.map((next) => `the next build would ${next}`),
    ].filter(Boolean);
    if (!explain.reasons.length && explain.verdict === 'fresh') why.unshift('nothing it is made from changed');
    const call = (one) => el('tr', {}, el('td', {}, `${one.number}`), el('td', {}, `${one.attempt}${one.evaluation ? ' (evaluation)' : ''}`), el('td', {}, one.model), el('td', {}, words(one.verdict), one.why && `: ${one.why}`), el('td', { class: 'n' }, short(one.input_tokens)), el('td', { class: 'n' }, short(one.output_tokens)), el('td', { class: 'n' }, span(one.duration_s)));
    const heads = ['call', 'attempt', 'model', 'verdict', 'in', 'out', 'time'].map((head, n) => el('th', { scope: 'col', class: n > 3 && 'n' }, head));
    const sent = show.shown ? 'what was sent' : 'what would be sent now';
    return [
      el('div', { class: 'row spread' },
        el('h2', {}, sign(explain.state), ' ', name),
        el('div', { class: 'row' },
          explain.state === 'waiting' && button(C, explain.recipe === 'gate' ? 'Let it pass' : 'Done', { do: 'done', task: name }, { class: 'first' }),
          !['running', 'waiting', 'pending', 'blocked'].includes(explain.state) && explain.instances.length === 0 && button(C, 'Retry', { do: 'retry', task: name }, { sure: explain.state === 'done' ? `Make ${name} again, with a fresh answer?` : null }))),
      el('p', { class: 'sub' }, [explain.recipe, task?.model, task?.duration_s && span(task.duration_s), used?.calls > 0 && `${used.calls} ${used.calls === 1 ? 'call' : 'calls'}, ${short(used.input_tokens)} + ${short(used.output_tokens)} tokens, ${money(used.cost_usd)}`].filter(Boolean).join(' · ')),
      explain.description && el('p', {}, explain.description),
      explain.asked && el('div', { class: 'note wait lines' }, explain.asked),
      live !== null && section('The answer as it is written', el('pre', { tabindex: 0, class: 'live', 'aria-live': 'off' }, live)),
      section('Why', el('ul', {}, why.map((line) => el('li', { class: 'lines' }, line))), explain.reasons.filter((reason) => reason.diff).map((reason) => diffed(reason.diff))),
      needs.length + explain.readers.length > 0 && el('p', { class: 'lines around' }, [['made from', needs], ['read by', explain.readers]].filter(([, of]) => of.length).map(([what, of]) => el('span', {}, el('span', { class: 'sub' }, `${what} `), of.map((one, n) => [n > 0 && ', ', to(one)])))),
      explain.instances.length > 0 && section('Items', el('ul', { class: 'tasks' }, explain.instances.slice(0, 400).map((one) => el('li', { class: 'task few' }, sign(one.state), el('span', { class: 'name' }, to(one.task, one.task.startsWith(`${name}[`) ? one.task.slice(name.length + 1, -1) : one.task)), el('span', { class: 'sub' }, one.reasons.join('; ')))), explain.instances.length > 400 && el('li', { class: 'sub' }, `${explain.instances.length - 400} more`))),
      show.calls.length > 0 && section('Attempts and verdicts', scroll('Attempts', el('table', {}, el('thead', {}, el('tr', {}, heads)), el('tbody', {}, show.calls.map(call).reverse())))),
      el('section', { class: 'texts' },
        show.answer && fold('answer', 'Answer', true, block(show.answer)),
        changed && fold('changed', 'How the answer differs from the one before', false, diffed(changed)),
        show.prompt && fold('prompt', `Prompt: ${sent}${show.parts?.length ? `, with what came from ${[...new Set(show.parts.map((part) => part.input))].join(', ')}` : ''}`, false, parted(show.prompt, show.parts)),
        show.system && fold('system', `System prompt: ${sent}`, false, block(show.system)),
        show.log && fold('log', 'Log', !show.calls.length, block(show.log))),
      show.outputs.length > 0 && section('Outputs', el('ul', {}, show.outputs.map((output) => el('li', {}, el('code', {}, output.path), ` ${output.bytes} bytes`)))),
      versions.length > 0 && section('Former outputs', el('ul', {}, versions.slice(-20).reverse().map((one) => el('li', { class: 'row' }, `${one.version}, ${when(one.time_utc)} `, button(C, 'Restore', { do: 'restore', version: one.version }, { sure: `Restore ${one.version}? The present outputs go to history.` }))))),
      el('p', {}, command(C, `explain ${quoted(name)}`), ' ', command(C, `show ${quoted(name)}`)),
    ];
  }
  return { root, load, live: load, event: (event) => event.task === name && load() };
}

export function plan(C) {
  const root = el('div');
  const preview = el('div', { role: 'status' });
  let [text, waits] = [null, null];
  const area = el('textarea', { 'aria-label': 'Text of the plan', spellcheck: 'true', rows: 16, oninput: () => { clearTimeout(waits); waits = setTimeout(look, 600); } });
  async function look() {
    if (area.value === text) return put(preview, el('p', { class: 'sub' }, 'Edit the text to see what that makes stale and costs.'));
    const looked = area.value;
    put(preview, el('p', { class: 'sub' }, 'seeing what this makes stale…'));
    const seen = await C.wish({ do: 'preview-plan', text: looked }, true);
    if (!seen || looked !== area.value) return;
    const stale = seen.stale ?? [];
    put(preview,
      stale.length === 0 ? el('p', {}, 'The edit makes nothing stale.') : el('ul', { class: 'cards' },
        card(`${stale.length}`, stale.length === 1 ? 'task becomes stale' : 'tasks become stale', 'pend'),
        card(`${seen.depends.length}`, 'depend on them'),
        card(seen.calls_expected === seen.calls_at_most ? `${seen.calls_expected}` : `${seen.calls_expected} to ${seen.calls_at_most}`, 'calls expected'),
        seen.cost_usd > 0 && card(money(seen.cost_usd), 'cost when made last'),
        seen.duration_s > 0 && card(span(seen.duration_s), 'of work')),
      button(C, 'Change the plan', { do: 'edit-plan', text: area.value }, { class: 'first', onclick: save }),
      seen.diff && diffed(seen.diff),
      stale.length > 0 && fold('stale', 'What becomes stale, and why', stale.length < 16, el('ul', {}, stale.slice(0, 400).map((one) => el('li', {}, el('b', {}, one.task), ` ${one.reasons.map((reason) => reason.message).join('; ')}`)))),
      seen.depends.length > 0 && fold('depends', `${seen.depends.length} depend on them, and run only if what they read comes out changed`, false, el('p', {}, seen.depends.map((one, n) => [n > 0 && ', ', el('a', { href: C.link('task', { task: one.task ?? one }) }, one.task ?? one)]))));
  }
  async function save() {
    if (!confirm('Change the plan? The former text goes to history.')) return;
    if (await C.wish({ do: 'edit-plan', text: area.value })) {
      text = area.value;
      look();
    }
  }
  return {
    root,
    async load() {
      if (text !== null) return;
      const told = await C.json('plan');
      if (told.text === null) return put(root, el('p', {}, 'The pipeline names no plan: `plan = "plan.txt"` in [pipeline] does.'));
      text = told.text;
      area.value = text;
      put(root, el('p', { class: 'sub' }, told.plan), area, preview);
      area.style.height = `${Math.min(innerHeight / 2, Math.max(120, area.scrollHeight + 4))}px`;
      look();
    },
  };
}

export function events(C) {
  const list = el('ol', { class: 'log', 'aria-live': 'off', 'aria-label': 'Events' });
  list.append(...C.S.events.slice(-500).reverse().map((event) => happened(C, event)));
  const about = el('p', { class: 'sub' }, 'What happened, the newest first. ', el('code', {}, 'planexe events'), ' has all.');
  const one = (event) => {
    list.prepend(happened(C, event));
    if (list.childNodes.length > 600) list.lastChild.remove();
  };
  return { root: el('div', {}, about, list), past: one, event: one };
}
