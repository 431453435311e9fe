// The questions of two entries side by side: joining them, what became of each, filters and means. No page here.

export const ALL = "all";
const RATING_GAP = 2; // points from which two ratings disagree

/** What became of an answer: `kind` is win, tie, loss (against the benchmark's baseline), rating or none. */
export function outcomeOf(row) {
  const { preference = null, score = null } = row?.judgment ?? {};
  if (preference !== null) return { kind: kindOf(preference), value: preference };
  return score === null ? { kind: "none", value: null } : { kind: "rating", value: score };
}

/** The outcome by true quality, for benchmarks that know it; kind none for the others. */
export function trueOutcomeOf(row) {
  const value = row?.judgment?.true_preference ?? null;
  return { kind: value === null ? "none" : kindOf(value), value };
}

function kindOf(preference) {
  return preference === 0.5 ? "tie" : preference > 0.5 ? "win" : "loss";
}

/** Whether the judge and the truth see an answer differently. */
export function misjudged(row) {
  const truth = trueOutcomeOf(row).kind;
  return truth !== "none" && truth !== outcomeOf(row).kind;
}

/** Tokens of all turns together, or null where one is not known. */
export function tokensOf(row) {
  return row.turns.some((turn) => turn.tokens === null) ? null : sum(row.turns.map((turn) => turn.tokens));
}

export function truncated(row) {
  return Boolean(row?.turns.some((turn) => turn.truncated));
}

/** One item per question that either side has, in the order of the files; a side without an answer is undefined. */
export function join(leftRows, rightRows) {
  const left = new Map(leftRows.map((row) => [row.id, row]));
  const right = new Map(rightRows.map((row) => [row.id, row]));
  return [...new Set([...left.keys(), ...right.keys()])].map((id) => {
    const question = { id, left: left.get(id), right: right.get(id) };
    const one = question.left ?? question.right;
    const sides = [question.left, question.right].filter(Boolean);
    const texts = sides.flatMap((row) => row.turns.flatMap((turn) => [turn.prompt, turn.text]));
    return { ...question, category: one.category, prompts: one.turns.map((turn) => turn.prompt), text: lower(texts) };
  });
}

function lower(texts) {
  return texts.join("\n").toLowerCase();
}

function disagree({ left, right }) {
  const [ours, theirs] = [outcomeOf(left), outcomeOf(right)];
  if (ours.kind === "none" || theirs.kind === "none") return false;
  if (ours.kind === "rating") return Math.abs(ours.value - theirs.value) >= RATING_GAP;
  return (ours.kind === "win") !== (theirs.kind === "win");
}

/** Ratings have no baseline to lose against: the lower one loses. */
function loses(row, other) {
  const [ours, theirs] = [outcomeOf(row), outcomeOf(other)];
  return ours.kind === "loss" || (ours.kind === "rating" && theirs.kind === "rating" && ours.value < theirs.value);
}

/** The filters that make sense for these questions: name, words for the menu, test. */
export function filtersFor(questions) {
  const rows = questions.flatMap(({ left, right }) => [left, right]);
  const rated = rows.some((row) => outcomeOf(row).kind === "rating");
  const filters = [
    { name: ALL, label: "all questions", test: () => true },
    { name: "disagreements", label: rated ? `ratings ${RATING_GAP} or more apart` : "disagreements", test: disagree },
    { name: "left-loses", label: rated ? "left rated lower" : "left loses", test: (q) => loses(q.left, q.right) },
    { name: "right-loses", label: rated ? "right rated lower" : "right loses", test: (q) => loses(q.right, q.left) },
    { name: "truncated", label: "truncated answers", test: (q) => truncated(q.left) || truncated(q.right) },
  ];
  if (rows.some((row) => trueOutcomeOf(row).kind !== "none")) {
    const test = (q) => misjudged(q.left) || misjudged(q.right);
    filters.push({ name: "misjudged", label: "judge against truth", test });
  }
  return filters;
}

/** The orders that questions may be listed in: name, words for the menu, the number that is largest first. */
export const ORDERS = [
  { name: "", label: "as in the file", of: null },
  { name: "gap", label: "difference in length", of: ({ left, right }) => Math.abs(lengthOf(right) - lengthOf(left)) },
  { name: "grown", label: "right longer than left", of: ({ left, right }) => lengthOf(right) - lengthOf(left) },
  { name: "length", label: "right's length", of: ({ right }) => lengthOf(right) },
  { name: "preference", label: "right preferred over left", of: ({ left, right }) => valueOf(right) - valueOf(left) },
  { name: "against", label: "left preferred over right", of: ({ left, right }) => valueOf(left) - valueOf(right) },
];

/** The questions in an order; those without the number come last, equal ones stay in the file's order. */
export function ordered(questions, name) {
  const { of } = ORDERS.find((order) => order.name === name) ?? ORDERS[0];
  if (!of) return questions;
  const number = (question) => (Number.isNaN(of(question)) ? -Infinity : of(question));
  return [...questions].sort((one, other) => number(other) - number(one) || 0);
}

function lengthOf(row) {
  return row ? sum(row.turns.map((turn) => turn.characters)) : NaN;
}

function valueOf(row) {
  return outcomeOf(row).value ?? NaN;
}

/** Means over a side's rows (those that exist); null where nothing is known. */
export function summarise(rows) {
  const present = rows.filter(Boolean);
  const known = present.some((row) => row.turns.some((turn) => turn.truncated !== null));
  const judged = (key) => present.map((row) => row.judgment?.[key] ?? null).filter((value) => value !== null);
  return {
    answers: present.length,
    tokens: mean(present.map(tokensOf).filter((tokens) => tokens !== null)),
    characters: mean(present.map((row) => sum(row.turns.map((turn) => turn.characters)))),
    truncated: known ? present.filter(truncated).length : null,
    winRate: percent(mean(judged("preference"))),
    trueWinRate: percent(mean(judged("true_preference"))),
    quality: mean(judged("quality")),
    rating: mean(judged("score")),
  };
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

function mean(values) {
  return values.length ? sum(values) / values.length : null;
}

function percent(share) {
  return share === null ? null : 100 * share;
}
