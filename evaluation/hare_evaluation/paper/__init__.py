"""The paper: hypotheses that were written down before the runs, experiments on texts, ablations and scaling.

It composes what is there: suites say what to run (`hare_evaluation.spec`), records what came of it, figures and
statistics are those of every report. New here are the plan (`plan`), what is tested of the records (`endpoints`), the
verdicts (`verdicts`), the experiments that need texts (`experiments`), and the page (`document`, `page`).
"""
