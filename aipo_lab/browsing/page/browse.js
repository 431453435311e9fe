// The page: its state, kept in the address so that a view can be shared, and what people do to it.

import { make, options } from "./elements.js";
import { ALL, filtersFor, join, ordered, ORDERS } from "./questions.js";
import { MODES } from "./texts.js";
import { listItem, pathView, questionView, summaryTable } from "./view.js";

const CACHED_ENTRIES = 12; // an entry of a large benchmark is some megabytes
const TYPING_PAUSE_MS = 120;
const FIELDS = ["benchmark", "left", "right", "category", "show", "order", "as", "view", "search", "question"];
const DEFAULTS = { show: ALL, as: MODES[0].value };
const SIDES = ["left", "right"];
const at = Object.fromEntries(
  [
    ...FIELDS,
    ...SIDES.map((side) => `${side}-iteration`),
    ...["controls", "category-label", "swap", "errors", "notes", "summary", "count", "questions"],
  ].map((id) => [
    id,
    document.getElementById(id),
  ]),
);

let index = { benchmarks: [], entries: [], notes: [] };
let state = {}; // the FIELDS, as text
let joined = []; // the questions of both entries
let labels = {}; // of the entries in `joined`: while others load, not those of the state
let shown = []; // those that pass the filters
let typing; // the timer that waits for a pause in typing
let requests = 0; // numbers what is loaded: an answer that was overtaken is dropped
const rowsByEntry = new Map(); // promises of rows by entry number, least recently used first

async function fetchJson(path) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new Error("no answer from the server; start aipo-lab browse again if it was stopped");
  }
  const body = await response.json().catch(() => ({ error: `the server failed with status ${response.status}` }));
  if (!response.ok) throw new Error(body.error);
  return body;
}

function rowsOf(entry) {
  const rows = rowsByEntry.get(entry.number) ?? fetchJson(`api/entry/${entry.number}`).then((body) => body.questions);
  rowsByEntry.delete(entry.number);
  rowsByEntry.set(entry.number, rows);
  rows.catch(() => rowsByEntry.delete(entry.number)); // so that it can be tried again
  if (rowsByEntry.size > CACHED_ENTRIES) rowsByEntry.delete(rowsByEntry.keys().next().value);
  return rows;
}

function entriesOf(benchmark) {
  return index.entries.filter((entry) => entry.benchmark === benchmark);
}

/** A state with every choice possible: what is missing or unknown gets its default (right: the last entry). */
function completed(wanted) {
  const benchmark = index.benchmarks.includes(wanted.benchmark) ? wanted.benchmark : index.benchmarks[0];
  const labels = entriesOf(benchmark).map((entry) => entry.label);
  const known = (label, otherwise) => (labels.includes(label) ? label : otherwise);
  const [left, right] = [known(wanted.left, labels[0]), known(wanted.right, labels.at(-1))];
  const { category = "", show = ALL, order = "", search = "", question = "" } = wanted;
  const as = MODES.some(({ value }) => value === wanted.as) ? wanted.as : DEFAULTS.as;
  const view = wanted.view === "path" ? "path" : "";
  return { benchmark, left, right, category, show, order, as, view, search, question };
}

function stateInAddress() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

/** `how`: push where going back should return to the view before, else replace. */
function keepInAddress(how) {
  const given = FIELDS.filter((field) => state[field] !== "" && state[field] !== DEFAULTS[field]);
  const hash = `#${new URLSearchParams(given.map((field) => [field, state[field]]))}`;
  if (hash !== location.hash) history[`${how}State`](null, "", hash);
}

/** Load what the state needs and show it all. */
async function open(wanted, how) {
  const request = ++requests;
  state = completed(wanted);
  showEntryChoices();
  document.body.setAttribute("aria-busy", "true");
  at.count.textContent = "Loading …";
  const entries = entriesOf(state.benchmark);
  const sides = ["left", "right"].map((side) => entries.find((entry) => entry.label === state[side]));
  const loaded = await Promise.allSettled(sides.map(rowsOf));
  if (request !== requests) return;
  document.body.removeAttribute("aria-busy");
  showErrors(loaded.map((one, k) => (one.reason ? `${sides[k].label}: ${one.reason.message}` : "")).filter(Boolean));
  joined = join(...loaded.map((one) => one.value ?? []));
  labels = { left: state.left, right: state.right };
  showFilterChoices();
  showQuestions();
  keepInAddress(how);
}

function showEntryChoices() {
  options(at.benchmark, index.benchmarks.map((name) => ({ value: name, label: name })), state.benchmark);
  const entries = entriesOf(state.benchmark);
  const most = Math.max(...entries.map((entry) => entry.answers ?? 0));
  const items = entries.map(({ label, answers, judged }) => {
    const number = answers === null ? ["unreadable"] : answers < most ? [`${answers} of ${most} answers`] : [];
    const notes = [...number, ...(judged ? [] : ["not judged"])];
    return { label, note: notes.length ? ` (${notes.join(", ")})` : "" };
  });
  const noted = Object.fromEntries(items.map(({ label, note }) => [label, note]));
  for (const side of SIDES) showPicker(side, entries, noted);
}

/** A side's two menus: the model, and which of its iterations. */
function showPicker(side, entries, noted) {
  const { model } = entries.find(({ label }) => label === state[side]);
  const own = entries.filter((entry) => entry.model === model);
  const models = [...new Set(entries.map((entry) => entry.model))];
  const alone = (name) => entries.filter((entry) => entry.model === name && entry.iteration === null).map(({ label }) => noted[label]);
  options(at[side], models.map((name) => ({ value: name, label: name + alone(name).join("") })), model);
  const iteration = at[`${side}-iteration`];
  iteration.hidden = own.every((entry) => entry.iteration === null);
  options(iteration, own.map(({ label, iteration: t }) => ({ value: label, label: `iteration ${t}${noted[label]}` })), state[side]);
}

/** The label of a model's entry: the iteration that the side shows now if the model has it, else its last. */
function labelOf(side, model) {
  const entries = entriesOf(state.benchmark);
  const now = entries.find(({ label }) => label === state[side])?.iteration;
  const own = entries.filter((entry) => entry.model === model);
  return (own.find(({ iteration }) => iteration === now) ?? own.at(-1)).label;
}

function showFilterChoices() {
  const categories = [...new Set(joined.map((question) => question.category))].filter(Boolean);
  if (!categories.includes(state.category)) state.category = "";
  at["category-label"].hidden = categories.length < 2;
  const all = { value: "", label: "all categories" };
  options(at.category, [all, ...categories.map((name) => ({ value: name, label: name }))], state.category);
  const filters = filtersFor(joined);
  if (!filters.some((filter) => filter.name === state.show)) state.show = ALL;
  options(at.show, filters.map(({ name, label }) => ({ value: name, label })), state.show);
  options(at.order, ORDERS.map(({ name, label }) => ({ value: name, label })), state.order);
  options(at.as, MODES, state.as);
  at.view.value = state.view;
  if (at.search.value !== state.search) at.search.value = state.search;
}

/** Apply the filters and show list, means and question; a question that is filtered out gives way to the first. */
function showQuestions() {
  const filters = filtersFor(joined);
  const { test } = filters.find((filter) => filter.name === state.show) ?? filters[0];
  const wanted = state.search.trim().toLowerCase();
  const inCategory = ({ category }) => state.category === "" || category === state.category;
  const passing = joined.filter((question) => inCategory(question) && question.text.includes(wanted) && test(question));
  shown = ordered(passing, state.order);
  at.count.textContent = `${shown.length} of ${joined.length} questions`;
  at.questions.replaceChildren(...shown.map(listItem));
  at.summary.replaceChildren(...(shown.length ? [summaryTable(shown, labels)] : []));
  showQuestion();
}

function showQuestion() {
  const question = shown.find(({ id }) => id === state.question) ?? shown[0];
  state.question = question?.id ?? "";
  at.questions.querySelector("[aria-current]")?.removeAttribute("aria-current");
  if (!question) {
    const reason = joined.length ? "No question passes the filters." : "There are no answers to show.";
    at.question.replaceChildren(make("p", { class: "missing" }, reason));
    return;
  }
  const current = at.questions.children[shown.indexOf(question)].firstChild;
  current.setAttribute("aria-current", "true");
  scrollInList(current);
  if (state.view === "path") showPath(question);
  else at.question.replaceChildren(...questionView(question, labels, state.as));
}

/** The question as the right model answered it at every iteration, after the first entry: the base model's. */
async function showPath(question) {
  const request = requests;
  const entries = entriesOf(state.benchmark);
  const { model } = entries.find(({ label }) => label === labels.right);
  const steps = entries.filter((entry, k) => k === 0 || entry.model === model);
  const rows = await Promise.allSettled(steps.map(rowsOf));
  if (request !== requests || state.question !== question.id || state.view !== "path") return;
  const found = rows.map((one) => one.value?.find(({ id }) => id === question.id));
  at.question.replaceChildren(...pathView(question, steps.map(({ label }, k) => [label, found[k]]), state.as));
}

/** Not `scrollIntoView`: that would scroll the page too, for the list reaches below the window. */
function scrollInList(item) {
  const [list, box] = [at.questions.getBoundingClientRect(), item.getBoundingClientRect()];
  const bottom = Math.min(list.bottom, innerHeight);
  if (box.top < list.top) at.questions.scrollTop -= list.top - box.top;
  else if (box.bottom > bottom) at.questions.scrollTop += box.bottom - bottom;
}

function choose(id, how) {
  state.question = id;
  showQuestion();
  if (at.question.getBoundingClientRect().top < 0) at.question.scrollIntoView();
  keepInAddress(how);
}

/** Go `by` questions further; a key held down leaves one step to go back. */
function step(by, held) {
  const next = shown[shown.findIndex(({ id }) => id === state.question) + by];
  if (!next) return;
  choose(next.id, held ? "replace" : "push");
  if (at.questions.contains(document.activeElement)) at.questions.querySelector("[aria-current]").focus();
}

function showErrors(messages) {
  const again = make("button", { type: "button" }, "Try again");
  again.addEventListener("click", start);
  at.errors.replaceChildren(...messages.map((message) => make("p", {}, message)), ...(messages.length ? [again] : []));
}

at.controls.addEventListener("submit", (event) => event.preventDefault());
at.controls.addEventListener("change", ({ target }) => {
  if (target === at.search) return;
  const side = target.id.split("-")[0];
  const value = target.id === side && SIDES.includes(side) ? labelOf(side, target.value) : target.value;
  const wanted = { ...state, [side]: value };
  if (["category", "show", "order", "as", "view"].includes(target.id)) {
    state = wanted;
    showQuestions();
    keepInAddress("push");
  } else {
    open(wanted, "push");
  }
});
at.search.addEventListener("input", () => {
  state.search = at.search.value;
  clearTimeout(typing);
  typing = setTimeout(() => {
    showQuestions();
    keepInAddress("replace");
  }, TYPING_PAUSE_MS);
});
at.swap.addEventListener("click", () => open({ ...state, left: state.right, right: state.left }, "push"));
at.questions.addEventListener("click", ({ target }) => {
  const item = target.closest("li");
  if (item) choose(shown[[...at.questions.children].indexOf(item)].id, "push");
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
  const inList = at.questions.contains(event.target);
  const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1, ...(inList && { ArrowDown: 1, ArrowUp: -1 }) }[event.key];
  if (by) step(by, event.repeat);
  else if (event.key === "/") at.search.focus();
  else return;
  event.preventDefault();
});
window.addEventListener("popstate", () => open(stateInAddress(), "replace"));

async function start() {
  try {
    index = await fetchJson("api/index");
  } catch (error) {
    showErrors([error.message]);
    return;
  }
  at.notes.replaceChildren(...index.notes.map((note) => make("p", {}, note)));
  await open(stateInAddress(), "replace");
}

start();
