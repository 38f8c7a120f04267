// A copy of the flagship whose gate stops and one item of which fails, to be driven from the page.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PARTS = ['pipeline.toml', 'legacy_names.toml', 'prompts', 'schemas', 'templates', 'examples'];
const FRESH = ['plan.txt', 'run.toml', 'answers.json'];

/** Makes it in a folder; its run, and `mend`, after which the item succeeds. */
export function stage(folder) {
  mkdirSync(folder);
  for (const part of PARTS) cpSync(part, join(folder, part), { recursive: true });
  const run = join(folder, 'examples/strategic-plan');
  for (const name of readdirSync(run)) if (!FRESH.includes(name)) rmSync(join(run, name), { recursive: true });
  // Slow enough to be paused.
  const pipeline = join(folder, 'pipeline.toml');
  writeFileSync(pipeline, readFileSync(pipeline, 'utf8').replace('latency = "150ms"', 'latency = "400ms"'));
  const file = join(run, 'answers.json');
  const whole = JSON.parse(readFileSync(file, 'utf8'));
  for (const answer of whole.answers) if (answer.task === 'pre_project_assessment') answer.answer.verdict = 'no-go';
  const lost = whole.answers.find((answer) => answer.task === 'create_wbs_level3');
  writeFileSync(file, JSON.stringify({ ...whole, answers: whole.answers.filter((answer) => answer !== lost) }));
  return { run, mend: () => writeFileSync(file, JSON.stringify(whole)) };
}
