// Making elements and numbers. Strings become text, never markup.

/** An element with attributes and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function options(select, items, chosen) {
  select.replaceChildren(...items.map(({ value, label }) => make("option", { value }, label)));
  select.value = chosen;
}

const formats = [0, 1, 2].map(
  (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);

export function number(value, digits = 0) {
  return formats[digits].format(value);
}

export function signed(value) {
  return value === 0 ? "±0" : (value > 0 ? "+" : "−") + number(Math.abs(value));
}
