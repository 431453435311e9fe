// Sorting by a click on a heading.
document.querySelectorAll("table.sortable th").forEach((heading) => heading.addEventListener("click", () => {
  const column = heading.cellIndex, body = heading.closest("table").tBodies[0];
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  heading.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => { const cell = row.cells[column]; return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent; };
  const sign = ascending ? 1 : -1;  // a missing number stays at the end in both directions
  const compare = (a, b) => typeof a === typeof b ? sign * (typeof a === "number" ? a - b : a.localeCompare(b)) : typeof a === "number" ? -1 : 1;
  [...body.rows].sort((a, b) => compare(key(a), key(b))).forEach((row) => body.append(row));
}));
