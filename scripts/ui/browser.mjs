// Drives a headless Chromium by its pipe: no package, no port, no profile that is kept.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The browser's program, or null. */
export function find() {
  for (const name of [process.env.CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome']) {
    if (name && spawnSync('which', [name]).status === 0) return name;
  }
  return null;
}

/** Waits until a condition holds; what it gives. */
export async function until(what, condition, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`gave up waiting for ${what}`);
    await new Promise((go) => setTimeout(go, 20));
  }
}

export class Browser {
  constructor(program) {
    this.profile = mkdtempSync(join(tmpdir(), 'planexe-browser-'));
    this.child = spawn(
      program,
      ['--headless=new', '--remote-debugging-pipe', '--no-sandbox', '--disable-gpu', '--no-first-run',
        '--disable-background-networking', '--disable-component-update', '--disable-sync', '--hide-scrollbars',
        '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows',
        `--user-data-dir=${this.profile}`],
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
    );
    this.waiting = new Map();
    this.pages = new Map();
    this.next = 1;
    let text = '';
    this.child.stdio[4].setEncoding('utf8').on('data', (piece) => {
      text += piece;
      for (let end; (end = text.indexOf('\0')) >= 0; text = text.slice(end + 1)) this.#take(JSON.parse(text.slice(0, end)));
    });
  }

  #take(message) {
    if (message.id) {
      const { done, failed } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.error) failed(new Error(message.error.message));
      else done(message.result);
    } else {
      this.pages.get(message.sessionId)?.take(message);
    }
  }

  send(method, params = {}, sessionId) {
    const id = this.next++;
    return new Promise((done, failed) => {
      this.waiting.set(id, { done, failed });
      this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  /** A tab of this width, dark or light. */
  async page(width = 1280, height = 860, dark = false) {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId, targetId);
    this.pages.set(sessionId, page);
    for (const domain of ['Page', 'Runtime', 'Network', 'Log', 'DOM', 'Accessibility']) await page.send(`${domain}.enable`);
    await page.look(width, height, dark);
    return page;
  }

  async close() {
    const gone = new Promise((go) => this.child.once('exit', go));
    this.send('Browser.close').catch(() => {});
    await Promise.race([gone, new Promise((go) => setTimeout(go, 3000))]);
    this.child.kill('SIGKILL');
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  }
}

class Page {
  constructor(browser, session, target) {
    Object.assign(this, { browser, session, target, requests: [], complaints: [] });
  }

  take({ method, params }) {
    if (method === 'Network.requestWillBeSent') this.requests.push(params.request.url);
    if (method === 'Runtime.exceptionThrown') this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === 'Log.entryAdded' && params.entry.level === 'error') this.complaints.push(`${params.entry.text} ${params.entry.url ?? ''}`);
    if (method === 'Page.javascriptDialogOpening') this.complaints.push(`dialog: ${params.message}`);
    if (method === 'Page.loadEventFired') this.loaded?.();
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  async look(width, height, dark) {
    // A tab behind another is drawn seldom, or never.
    await this.send('Page.bringToFront');
    await this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
  }

  async go(url) {
    const loaded = new Promise((go) => (this.loaded = go));
    await this.send('Page.navigate', { url });
    await Promise.race([loaded, new Promise((go) => setTimeout(go, 15000))]);
  }

  /** The value of an expression; promises are waited for. */
  async eval(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  until(what, expression, seconds) {
    return until(what, () => this.eval(expression), seconds);
  }

  async key(key, text) {
    await this.send('Page.bringToFront');
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', key, code: key, text });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key, code: key });
  }

  async shot(file, whole = false) {
    await this.send('Page.bringToFront');
    const { data } = await this.send('Page.captureScreenshot', { format: 'png', captureBeyondViewport: whole });
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  close() {
    return this.browser.send('Target.closeTarget', { targetId: this.target });
  }
}
