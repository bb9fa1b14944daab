/** A worker: aligns with some selectors, step by step in turn, and tells of each every few steps. */
import { Alignment, readWorld } from "./alignment.js";

onmessage = ({ data: { world, reference, selectors, settings, seed, steps, every } }) => {
  const decoded = readWorld(world);
  const runs = selectors.map((selector) => new Alignment(decoded, reference, selector, settings, seed));
  const starts = runs.map((run) => run.ndcg());
  const tell = (run, place, step) => {
    const change = step ? 100 * (run.ndcg() / starts[place] - 1) : 0;
    postMessage({ selector: run.selector, step, change, wrong: run.wrong, right: run.right });
  };
  runs.forEach((run, place) => tell(run, place, 0));
  for (let step = 1; step <= steps; step++) {
    runs.forEach((run, place) => {
      run.step();
      if (step % every === 0 || step === steps) tell(run, place, step);
    });
  }
};
