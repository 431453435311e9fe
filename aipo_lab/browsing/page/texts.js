// How an answer's text is shown: as sanitised Markdown, as it was written, or with its differences to the other side.

import { make } from "./elements.js";

export const MODES = [
  { value: "markdown", label: "as Markdown" },
  { value: "raw", label: "as written" },
  { value: "differences", label: "differences" },
];
const FOLDED_CHARACTERS = 2500; // about a window's height
const TAGS = "p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del table thead tbody tr th td a input".split(" ");
const unfolded = new Set(); // texts that were unfolded, by what they are: kept from mode to mode

const markdown = new marked.Marked({ gfm: true, breaks: true });
// Markup in an answer is shown, not obeyed: a reader must see all that the model wrote.
markdown.use({ renderer: { html: ({ text }) => escaped(text), image: ({ raw }) => escaped(raw) } });

function escaped(text) {
  return text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
}

/** The element of an answer; `other` is the other side's text, or undefined. */
export function answerText(content, mode, other, side, key) {
  const element = make("div", { class: "text", dir: "auto" });
  if (mode === "markdown") showMarkdown(element, content);
  else if (mode === "differences" && other !== undefined) showDifferences(element, content, other, side);
  else element.append(content);
  return content.length > FOLDED_CHARACTERS ? folded(element, content, key) : element;
}

function showMarkdown(element, content) {
  element.classList.add("markdown");
  const html = DOMPurify.sanitize(markdown.parse(content), { ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ["href", "title", "start", "align", "type", "checked", "disabled"] });
  element.innerHTML = html;
  for (const link of element.querySelectorAll("a")) {
    link.title = link.getAttribute("href") ?? "";
    link.removeAttribute("href"); // where it leads is shown; a model's address is not to be followed by a slip
  }
}

/** The words of one text, those that the other side does not have marked. */
function showDifferences(element, content, other, side) {
  const [before, after] = side === "left" ? [content, other] : [other, content];
  for (const part of Diff.diffWordsWithSpace(before, after)) {
    if (!part.added && !part.removed) element.append(part.value);
    else if (part.removed === (side === "left")) element.append(make(side === "left" ? "del" : "ins", {}, part.value));
  }
}

function folded(element, content, key) {
  const words = (open) => (open ? "fold" : `show all ${content.length.toLocaleString("en")} characters`);
  const button = make("button", { type: "button", class: "fold" }, words(unfolded.has(key)));
  element.classList.toggle("folded", !unfolded.has(key));
  button.addEventListener("click", () => {
    const open = element.classList.toggle("folded") === false;
    if (open) unfolded.add(key);
    else unfolded.delete(key);
    button.textContent = words(open);
  });
  return make("div", {}, element, button);
}
