(() => {
  const tools = document.getElementById("tools");
  if (!tools) return;
  const rows = [...document.querySelectorAll("[data-status]")];
  const [find, status, sort] = tools.querySelectorAll("input, select");
  const count = tools.querySelector("output");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const show = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = (!status.value || row.dataset.status === status.value) && words.every((word) => texts.get(row).includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    if (find.value || status.value) for (const more of document.querySelectorAll("details:has([data-status])")) more.open = !!more.querySelector("[data-status]:not([hidden])");
    count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
  };
  const order = () => {
    const key = sort.value;
    for (const list of document.querySelectorAll(".cards, .lines, tbody")) {
      const mine = rows.filter((row) => row.parentElement === list);
      if (!mine.length) continue;
      const by = { name: (a, b) => a.dataset.name.localeCompare(b.dataset.name), cost: (a, b) => b.dataset.cost - a.dataset.cost, time: (a, b) => b.dataset.time - a.dataset.time }[key];
      list.append(...(by ? [...mine].sort(by) : mine));
    }
  };
  find.addEventListener("input", show);
  status.addEventListener("change", show);
  sort.addEventListener("change", order);
  tools.hidden = false;
  show();
})();
