"use strict";
const table = document.getElementById("findings");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = document.getElementById("search");
  const level = document.getElementById("level");
  const shown = document.getElementById("shown");
  const filter = () => {
    const words = text.value.toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = (!level.value || row.dataset.level === level.value) && row.textContent.toLowerCase().includes(words);
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${rows.length} findings`;
  };
  text.addEventListener("input", filter);
  level.addEventListener("change", filter);
  for (const [index, head] of Array.from(table.tHead.rows[0].cells).entries()) {
    const button = head.querySelector("button");
    if (!button) continue;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[index].dataset.key ?? row.cells[index].textContent;
      rows.sort((a, b) => (up ? 1 : -1) * key(a).localeCompare(key(b), "en", { numeric: true }));
      body.append(...rows);
    });
  }
  document.getElementById("download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([document.getElementById("csv").textContent], { type: "text/csv" }));
    link.download = "findings.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
