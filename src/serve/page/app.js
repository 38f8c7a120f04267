// The page of `planexe ui`: asks the server, follows its events, and shows the view that the address names.
import { el, put } from './dom.js';
import * as views from './views.js';

const S = { about: null, run: null, status: null, events: [], offset: null, past: 0, states: new Map() };
globalThis.planexe = S; // for scripts/ui-check, and for whoever looks into it
const $ = (id) => document.getElementById(id);

// The token stands behind `#` once; then this tab remembers it, and the address can be shown to others.
const here = () => new URLSearchParams(location.hash.slice(1));
if (here().get('token')) {
  sessionStorage.setItem('token', here().get('token'));
  history.replaceState(null, '', '/#');
}

/** The address of a view. */
export function link(view, more = {}) {
  const parts = new URLSearchParams({ ...(view && { view }), ...(S.run && { run: S.run }), ...more });
  return `#${parts}`;
}

class Refused extends Error {
  constructor(status, { message, hints = [] }) {
    super([message, ...hints.map((hint) => `${hint}`)].join('\n'));
    this.status = status;
  }
}

async function ask(name, { query = {}, body } = {}) {
  const parts = new URLSearchParams({ ...query, ...(S.run && { run: S.run }) });
  const headers = { authorization: `Bearer ${sessionStorage.getItem('token') ?? ''}` };
  if (body) headers['content-type'] = 'application/json';
  const answer = await fetch(`/api/${name}?${parts}`, { method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body) });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, said.error ?? { message: answer.statusText });
  }
  return answer;
}
const json = async (name, query) => (await ask(name, { query })).json();
const text = async (name, query) => (await ask(name, { query })).text();

/** Wishes a change, and says what became of it. */
async function wish(body, quiet = false) {
  try {
    const answer = await (await ask('do', { body })).json();
    if (quiet) return answer;
    toast(answer.message ?? views.told(body, answer), false);
    again(0);
    return answer;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

let toasts;
function toast(message, bad) {
  const place = $('toast');
  place.textContent = message;
  place.className = bad ? 'toast bad' : 'toast';
  place.hidden = false;
  clearTimeout(toasts);
  toasts = setTimeout(() => (place.hidden = true), bad ? 12000 : 5000);
}

function say(message) {
  $('said').textContent = message;
}

// What is shown.
let shown = null; // { name, key, update }
const C = { S, json, text, wish, link, toast };

async function route() {
  const at = here();
  const run = at.get('run');
  if (run !== S.run) {
    Object.assign(S, { run, status: null, events: [], offset: null, past: 0, states: new Map() });
    following?.abort();
    shown = null;
  }
  const name = S.about.runs && !run ? 'runs' : at.get('view') || 'overview';
  const key = `${name} ${at.get('task') ?? ''} ${run ?? ''}`;
  if (shown?.key !== key) {
    const first = !shown;
    shown?.close?.();
    shown = { key, name };
    const made = (views[name] ?? views.overview)(C, at);
    shown = { key, name, ...made };
    $('main').replaceChildren(made.root);
    scrollTo(0, 0);
    if (!first) $('main').focus({ preventScroll: true });
    if (name !== 'runs' && !following) follow();
  }
  if (S.status || name === 'runs') update();
  await refresh();
}

let [asked, due, busy] = [0, null, false];
/** Asks for the state again, soon; never while it is being asked for. */
function again(wait = 120) {
  if (!due) due = setTimeout(() => { due = null; refresh(); }, wait);
}

async function refresh() {
  if (busy) return (busy = 'again');
  busy = true;
  const mine = ++asked;
  const state = async () => {
    if (shown.name === 'runs') return;
    const status = await json('status');
    if (mine !== asked) return;
    if (S.status && S.status.run.phase !== status.run.phase) say(`the run is ${status.run.phase}`);
    S.status = status;
    S.states = new Map(status.tasks.map((task) => [task.task, task.state]));
    update();
  };
  const failed = (error) => {
    if (error.status === 401) return barred(error.message);
    if (error.status) toast(error.message, true);
  };
  try {
    // What the view asks for itself is not asked for after the state, but with it.
    await Promise.all([state(), shown?.load?.()]);
  } catch (error) {
    failed(error);
  } finally {
    const more = busy === 'again';
    busy = false;
    // What takes long to ask for is asked for less often.
    if (more) again(S.status && S.status.tasks.length > 800 ? 1500 : 250);
  }
}

function update() {
  head();
  shown?.update?.();
}

function barred(message) {
  $('main').replaceChildren(el('div', { class: 'note fail' }, el('h2', {}, 'This address does not open the run'), el('p', {}, message)));
  following?.abort();
}

function head() {
  const status = S.status;
  const run = status?.run;
  $('title').textContent = shown?.name === 'runs' ? 'Runs' : run ? run.label || S.run || run.pipeline : 'planexe';
  document.title = run && shown?.name !== 'runs' ? `${run.phase}: ${$('title').textContent}` : 'planexe';
  put($('phase'), run && shown.name !== 'runs' && el('span', { class: `s-${views.PHASES[run.phase] ?? 'wait'}` }, run.phase.replace('_', ' ')));
  const now = shown?.name;
  const { failed = 0, waiting = 0 } = status?.counts ?? {};
  const tabs = [['overview', 'Overview'], ['graph', 'Graph'], ['timeline', 'Timeline'], ['failures', 'Failures'], ['plan', 'Plan'], ['events', 'Events']];
  const item = ([view, name]) => el('a', { href: link(view === 'overview' ? '' : view), 'data-key': view, 'aria-current': view === now && 'page' }, name, view === 'failures' && failed + waiting > 0 && el('b', { class: failed ? 'badge' : 'badge wait', 'aria-label': `${failed} failed, ${waiting} waiting` }, `${failed + waiting}`));
  put($('nav'), S.about.runs && el('a', { href: '#', 'data-key': 'runs', 'aria-current': now === 'runs' && 'page' }, 'Runs'), now !== 'runs' && tabs.map(item));
  put($('controls'), now !== 'runs' && run && views.controls(C));
}

// Events: the lines of events.jsonl, as they are written.
let following = null;
async function follow() {
  const own = (following = new AbortController());
  while (following === own && !own.signal.aborted) {
    try {
      const parts = new URLSearchParams({ ...(S.offset === null ? { last: 65536 } : { from: S.offset }), ...(S.run && { run: S.run }) });
      const headers = { authorization: `Bearer ${sessionStorage.getItem('token') ?? ''}` };
      const answer = await fetch(`/api/events?${parts}`, { headers, signal: own.signal });
      if (answer.status === 401) return barred('the token is not that of this server; open the address that `planexe ui` printed');
      if (!answer.ok) throw new Error(answer.statusText);
      linked(true);
      // What happened while nobody listened.
      again(0);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split('\n\n');
        rest = parts.pop();
        for (const part of parts) take(part);
      }
    } catch (error) {
      if (own.signal.aborted) break;
    }
    linked(false);
    await new Promise((go) => setTimeout(go, 700));
  }
  if (following === own) following = null;
}

function linked(is) {
  $('link').textContent = is ? '' : 'the server is gone; trying again';
}

const STATES = { 'task.started': 'running', 'task.completed': 'done', 'task.rescued': 'done', 'task.failed': 'failed', 'task.skipped': 'skipped', 'task.waiting': 'waiting', 'task.stopped': 'stopped' };

function take(part) {
  const field = (name) => part.split('\n').filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2))[0];
  const kind = field('event');
  if (field('id')) S.offset = Number(field('id'));
  if (kind === 'ready') {
    const { offset, end } = JSON.parse(field('data'));
    S.past = S.offset === null ? end : 0;
    S.offset ??= offset;
    return;
  }
  if (kind === 'live') {
    shown?.live?.();
    return again(400);
  }
  if (kind === 'again') return again(0);
  if (kind || !field('data')) return;
  const event = JSON.parse(field('data'));
  S.events.push(event);
  if (S.events.length > 2000) S.events.splice(0, 500);
  // What happened before this page was opened is history: the state has it already.
  if (S.offset <= S.past) return shown?.past?.(event);
  const state = STATES[event.event];
  if (state && S.status) {
    // Shown at once; what follows from it is asked for.
    const task = S.status.tasks.find((one) => one.task === event.task);
    if (task) {
      Object.assign(task, { state, started_utc: state === 'running' ? event.timestamp_utc : task.started_utc });
      S.states.set(event.task, state);
    }
    if (state === 'failed' || state === 'waiting') say(`${event.task}: ${state}`);
  }
  shown?.event?.(event);
  if (!event.event.startsWith('task.progress')) again();
  // The build is gone a moment after its last event.
  if (/^pipeline\.(completed|failed|stopped)$/.test(event.event)) for (const wait of [700, 2500]) setTimeout(again, wait);
}

addEventListener('hashchange', () => {
  if (here().get('token')) location.reload();
  else route();
});
addEventListener('keydown', (event) => {
  if (event.target.matches('input, textarea, select') || event.ctrlKey || event.metaKey || event.altKey) return;
  const view = { o: '', g: 'graph', t: 'timeline', f: 'failures', p: 'plan', e: 'events' }[event.key];
  if (view !== undefined && shown?.name !== 'runs') location.hash = link(view);
  if (event.key === '/') {
    document.querySelector('input[type=search]')?.focus();
    event.preventDefault();
  }
});

try {
  S.about = await json('about');
  await route();
} catch (error) {
  barred(error.message);
}
