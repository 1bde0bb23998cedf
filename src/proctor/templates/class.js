// Sorts a table by the column that is clicked. The page says all there is without it.
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent.trim();
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (x, y) => (isNaN(x - y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
      const rows = [...body.rows].sort((a, b) => order(value(a, i), value(b, i)));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}
