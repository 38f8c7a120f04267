// The page of a live build of the flagship, as pictures for the README: pictures.mjs RUN FOLDER
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Browser, until } from './browser.mjs';

const [run, out] = process.argv.slice(2);
const server = spawn(process.env.PLANEXE, ['ui', '--allow-changes', run], { stdio: ['ignore', 'pipe', 'inherit'] });
let said = '';
server.stdout.on('data', (piece) => (said += piece));
const browser = new Browser(process.env.CHROMIUM);
const rest = (ms) => new Promise((go) => setTimeout(go, ms));
try {
  const url = await until('the address', () => said.includes('\n') && said.split('\n')[0]);
  const page = await browser.page(1080, 640);
  await page.go(url);
  await page.until('the run', '!!planexe.status', 60);
  await page.eval(`[...document.querySelectorAll('.controls button')].find((one) => one.textContent === 'Build').click()`);
  await page.eval(`location.hash = '#view=graph'`);
  await page.until('the middle of the build', `planexe.states.get('create_wbs_level3') === 'running' && [...planexe.states].filter(([task, state]) => task.startsWith('create_wbs_level3[') && state === 'done').length > 4 && !!document.querySelector('.frame svg .t-run')`, 300);
  await rest(700);
  await page.shot(join(out, 'page-graph.png'));
  await page.until('the end', `planexe.status.run.phase === 'completed' && !planexe.status.run.pid`, 600);
  await page.look(1080, 680, false);
  await page.eval(`location.hash = '#view=timeline'`);
  await page.until('the timeline', `!!document.querySelector('.times svg')`, 60);
  await rest(500);
  await page.shot(join(out, 'page-timeline.png'));
} finally {
  await browser.close();
  const gone = new Promise((go) => server.once('exit', go));
  server.kill('SIGINT');
  await gone;
}
