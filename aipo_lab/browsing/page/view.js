// Turns questions into elements. Whatever came from a model or a file is set as text, never as markup.

import { make, number, signed } from "./elements.js";
import { misjudged, outcomeOf, summarise, tokensOf, trueOutcomeOf, truncated } from "./questions.js";
import { answerText } from "./texts.js";

const SIDES = ["left", "right"];
const MARKS = { win: "▲", tie: "=", loss: "▼", rating: "★", none: "–" };
const openVerdicts = new Set(); // which judge's words are unfolded, by name: kept from question to question

function chip({ kind, value }, prefix = "") {
  const words = { rating: () => number(value, 1), none: () => "no verdict" }[kind]?.() ?? kind;
  const mark = make("span", { "aria-hidden": "true" }, MARKS[kind]);
  return make("span", { class: `chip ${kind}` }, mark, ` ${prefix}${words}`);
}

/** The list's button of one question: id, first words and both outcomes. */
export function listItem({ id, left, right, prompts }) {
  const chips = make("span", { class: "chips" });
  for (const [side, row] of [["left", left], ["right", right]]) {
    const small = chip(outcomeOf(row));
    small.prepend(make("span", { class: "hidden" }, `${side}: `));
    small.title = `${side}: ${small.lastChild.data.trim()}`;
    chips.append(small);
  }
  const words = make("span", { class: "words" }, prompts[0].slice(0, 160));
  return make("li", {}, make("button", { type: "button" }, make("span", { class: "id" }, id), chips, words));
}

/** A table of both sides' means over the questions shown; columns nobody has a value for are left out. */
export function summaryTable(questions, labels) {
  const sides = SIDES.map((side) => summarise(questions.map((question) => question[side])));
  const embedded = sides.some((side) => side.trueWinRate !== null);
  const columns = [
    ["answers", "answers", 0, ""],
    ["tokens", "tokens", 1, ""],
    ["characters", "characters", 0, ""],
    ["truncated", "truncated", 0, ""],
    [embedded ? "win rate by length-biased judge" : "win rate", "winRate", 1, " %"],
    ["win rate by true quality", "trueWinRate", 1, " %"],
    ["true quality", "quality", 2, ""],
    ["rating", "rating", 2, ""],
  ].filter(([, key]) => sides.some((side) => side[key] !== null));
  const cell = (side, [, key, digits, unit]) => (side[key] === null ? "–" : number(side[key], digits) + unit);
  const body = SIDES.map((side, k) =>
    make(
      "tr",
      { class: side },
      make("th", { scope: "row" }, make("span", { class: "side-name" }, side), ` ${labels[side]}`),
      ...columns.map((column) => make("td", {}, cell(sides[k], column))),
    ),
  );
  const heads = columns.map(([title]) => make("th", { scope: "col" }, title));
  const head = make("tr", {}, make("td", {}, "means of what is shown"), ...heads);
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

/** The main area: every turn with both answers, then both judgments. */
export function questionView(question, labels, mode) {
  const category = question.category ? [" ", make("span", { class: "category" }, question.category)] : [];
  const parts = [make("h2", {}, "Question ", make("span", { class: "id" }, question.id), ...category)];
  const several = question.prompts.length > 1;
  question.prompts.forEach((prompt, k) => {
    const heading = make("h3", {}, several ? `Prompt, turn ${k + 1}` : "Prompt");
    parts.push(make("section", { class: "prompt" }, heading, text(prompt)));
    parts.push(columns((side, other) => answerView(question, side, other, k, labels, mode)));
  });
  parts.push(columns((side) => judgmentView(question[side], side)));
  return parts;
}

function columns(view) {
  return make("div", { class: "columns" }, view("left", "right"), view("right", "left"));
}

function text(content, kind = "") {
  return make("div", { class: `text ${kind}`, dir: "auto" }, content);
}

function answerView(question, side, other, k, labels, mode) {
  const heading = make("h3", {}, make("span", { class: "side-name" }, side), ` ${labels[side]}`);
  const article = make("article", { class: `answer ${side}` }, heading);
  const [turn, theirs] = [question[side]?.turns[k], question[other]?.turns[k]];
  if (!turn) {
    article.append(make("p", { class: "missing" }, "no answer to this question"));
    return article;
  }
  const line = lengthLine(turn, theirs);
  if (k === 0 && question[side].judgment) line.prepend(chip(outcomeOf(question[side])), " ");
  article.append(line, lengthBar(turn, theirs));
  article.append(answerOf(turn, mode, theirs?.text, side, `${question.id} ${k} ${labels[side]}`));
  if (turn.truncated) article.append(make("p", { class: "cut" }, "✂ truncated: the token limit was reached here"));
  return article;
}

function answerOf(turn, mode, theirs, side, key) {
  if (turn.text === "") return make("p", { class: "missing" }, "an empty answer");
  return answerText(turn.text, mode, theirs, side, key);
}

/** One question as one model answered it over its iterations: `steps` are [label, row], the base model first. */
export function pathView(question, steps, mode) {
  const parts = [make("h2", {}, "Question ", make("span", { class: "id" }, question.id), " through the iterations")];
  question.prompts.forEach((prompt, k) => {
    parts.push(make("section", { class: "prompt" }, make("h3", {}, "Prompt"), text(prompt)));
    const cells = steps.map(([label, row], n) => pathCell(label, row?.turns[k], row, steps[n - 1]?.[1]?.turns[k], mode));
    parts.push(make("div", { class: "path" }, ...cells));
  });
  return parts;
}

/** Differences are to the step before. */
function pathCell(label, turn, row, before, mode) {
  const article = make("article", { class: "answer right" }, make("h3", {}, label));
  if (!turn) {
    article.append(make("p", { class: "missing" }, "no answer to this question"));
    return article;
  }
  const line = lengthLine(turn, before);
  line.title = "in brackets: the difference to the step before";
  if (row.judgment) line.prepend(chip(outcomeOf(row)), " ");
  article.append(line, answerOf(turn, mode, before?.text, "right", `${row.id} ${label}`));
  if (turn.truncated) article.append(make("p", { class: "cut" }, "✂ truncated: the token limit was reached here"));
  return article;
}

function lengthLine(turn, theirs) {
  const measures = ["tokens", "characters"].map((unit) => [unit, turn[unit], theirs?.[unit]]);
  const known = measures.filter(([, value]) => value !== null);
  const words = known.map(([unit, value, other]) => {
    const difference = other === null || other === undefined ? "" : ` (${signed(value - other)})`;
    return `${number(value)} ${unit}${difference}`;
  });
  const title = "in brackets: the difference to the other side";
  const line = make("p", { class: "length", title }, words.join(" · "));
  if (turn.truncated) line.append(" ", make("span", { class: "chip cut" }, "✂ truncated"));
  return line;
}

/** The answer's length as a share of the longer one's. */
function lengthBar(turn, theirs) {
  const fill = make("div");
  fill.style.width = `${(100 * turn.characters) / Math.max(turn.characters, theirs?.characters ?? 0, 1)}%`;
  return make("div", { class: "bar", "aria-hidden": "true" }, fill);
}

function judgmentView(row, side) {
  const view = make("section", { class: `judgment ${side}` }, make("h3", {}, `Judgment of the ${side} answer`));
  if (!row?.judgment) {
    view.append(make("p", { class: "missing" }, row ? "not judged" : "no answer to judge"));
    return view;
  }
  const { preference, quality, baseline_quality: baseline, verdicts } = row.judgment;
  const truth = trueOutcomeOf(row);
  const known = truth.kind !== "none";
  const line = make("p", { class: "outcome" }, chip(outcomeOf(row), known ? "judge: " : ""));
  if (known) line.append(" ", chip(truth, "truth: "));
  if (misjudged(row)) line.append(" ", make("span", { class: "chip misjudged" }, "≠ judge against truth"));
  if (!known && preference !== null) {
    line.append(make("span", { class: "soft" }, ` preference ${number(preference, 2)}`));
  }
  view.append(line);
  if (quality !== null && baseline !== null) {
    view.append(make("p", { class: "quality" }, `true quality ${number(quality, 2)}, baseline ${number(baseline, 2)}`));
  }
  view.append(...verdicts.map(verdictView));
  if (row.turns.length > 1 && tokensOf(row) !== null) {
    const tokens = `${number(tokensOf(row))} tokens in all turns`;
    view.append(make("p", { class: "soft" }, truncated(row) ? `${tokens}, truncated` : tokens));
  }
  return view;
}

/** The judge's words, folded; a verdict without words is one line. */
function verdictView({ name, verdict, text: words }) {
  const heading = [make("span", {}, name), " ", make("strong", {}, verdict)];
  if (words === "") return make("p", { class: "verdict" }, ...heading);
  const summary = make("summary", {}, ...heading);
  const details = make("details", {}, summary, text(words, "judge-text"));
  details.open = openVerdicts.has(name);
  summary.addEventListener("click", () => (details.open ? openVerdicts.delete(name) : openVerdicts.add(name)));
  return details;
}
