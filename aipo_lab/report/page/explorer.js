// The report's interactive plot: length against win rate, a point per trial and iteration. Data: report/explorer.py.
"use strict";
(() => {
  const place = document.getElementById("explorer");
  if (!place || typeof Plotly === "undefined") return;
  const all = JSON.parse(document.getElementById("explorer-data").textContent);
  const control = (name) => place.querySelector(`[data-control=${name}]`);
  const plot = place.querySelector(".plot"), card = place.querySelector(".card");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => window.innerWidth < 640;
  let data = all[0], selected = null;

  const fill = (select, labels) => {
    select.replaceChildren(...labels.map((label, i) => new Option(label, String(i))));
    select.closest("label").hidden = labels.length < 2;
  };
  const axis = (name) => data[name + "s"][Number(control(name).value)];
  const baseOf = (point) => data.points.find((other) => other.trial === point.trial && other.iteration === 0);
  const valueOf = (point, ax) => {
    const value = point.values[ax.metric];
    if (value === undefined || !ax.relative) return value;
    const base = baseOf(point);
    return base && base.values[ax.metric] ? value / base.values[ax.metric] : undefined;
  };
  const errorOf = (point, ax) => {
    const error = point.errors[ax.metric];
    if (error === undefined || !ax.relative) return error;
    const base = baseOf(point);
    return base && base.values[ax.metric] ? error / base.values[ax.metric] : undefined;
  };
  const number = (value) => value === undefined ? "–" : Math.abs(value) < 3 ? value.toFixed(2) : value.toFixed(1);
  const measured = (point, ax) => {
    const error = errorOf(point, ax);
    return number(valueOf(point, ax)) + (error === undefined ? "" : ` ± ${number(error)}`);
  };
  const escape = (text) => text.replace(/[&<>]/g, (c) => ({"&": "&amp;", "<": "&lt;", ">": "&gt;"})[c]);

  const shown = () => {
    const which = control("iteration").value, x = axis("x"), y = axis("y");
    return data.points.filter((point) =>
      valueOf(point, x) !== undefined && valueOf(point, y) !== undefined &&
      (which === "all" || (which === "picked" ? point.picked : point.iteration === Number(which))));
  };
  const front = (points, x, y) => {
    const sorted = [...points].sort((a, b) => valueOf(a, x) - valueOf(b, x) || valueOf(b, y) - valueOf(a, y));
    const kept = [];
    for (const point of sorted) {
      if (!kept.length || valueOf(point, y) > valueOf(kept[kept.length - 1], y)) kept.push(point);
    }
    return kept;
  };
  const hover = (point) =>
    `<b>${escape(data.looks[point.contender].name)}</b> ${escape(point.setting)}<br>` +
    (point.iteration === 0 ? "base model" : `iteration ${point.iteration}`) +
    `<br>${escape(axis("x").label)}: ${measured(point, axis("x"))}<br>${escape(axis("y").label)}: ${measured(point, axis("y"))}`;

  const traces = () => {
    const points = shown(), x = axis("x"), y = axis("y"), ink = dark.matches ? "#e6e9ee" : "#1c2430", made = [];
    const joined = control("iteration").value === "all";
    for (const [contender, look] of Object.entries(data.looks)) {
      const own = points.filter((point) => point.contender === contender && point.iteration > 0);
      if (!own.length) continue;
      const colour = look.colour === "#000000" ? ink : look.colour;
      if (joined) {
        const xs = [], ys = [];
        for (const trial of new Set(own.map((point) => point.trial))) {
          for (const point of points.filter((one) => one.trial === trial)) { xs.push(valueOf(point, x)); ys.push(valueOf(point, y)); }
          xs.push(null); ys.push(null);
        }
        made.push({x: xs, y: ys, mode: "lines", line: {color: colour, width: 1}, opacity: 0.4, hoverinfo: "skip",
                   legendgroup: contender, showlegend: false});
      }
      made.push({
        x: own.map((point) => valueOf(point, x)), y: own.map((point) => valueOf(point, y)), name: look.name,
        legendgroup: contender, mode: joined ? "markers" : "markers+text", text: own.map((point) => String(point.iteration)),
        textposition: "top center", textfont: {size: 10, color: ink}, customdata: own, hovertext: own.map(hover),
        hoverinfo: "text", type: "scatter",
        marker: {symbol: look.symbol, color: colour, opacity: 1, size: own.map((point) => point.picked ? 12 : 8),
                 line: {color: ink, width: own.map((point) => point.picked ? 2 : 0)}},
        error_x: bars(own.map((point) => point.picked ? 1.96 * (errorOf(point, x) || 0) : 0), colour),
        error_y: bars(own.map((point) => point.picked ? 1.96 * (errorOf(point, y) || 0) : 0), colour),
      });
    }
    const bases = points.filter((point) => point.iteration === 0);
    const distinct = [...new Map(bases.map((point) => [`${valueOf(point, x)} ${valueOf(point, y)}`, point])).values()];
    if (distinct.length) {
      made.push({x: distinct.map((p) => valueOf(p, x)), y: distinct.map((p) => valueOf(p, y)), name: "base model",
                 mode: "markers", customdata: distinct, hovertext: distinct.map(hover), hoverinfo: "text",
                 marker: {symbol: "square-open", size: 11, color: ink, line: {width: 2}}});
    }
    const best = front(points, x, y);
    if (best.length > 1) {
      made.push({x: best.map((p) => valueOf(p, x)), y: best.map((p) => valueOf(p, y)), name: "Pareto front", mode: "lines",
                 line: {color: ink, width: 1.2, dash: "dash", shape: "hv"}, hoverinfo: "skip"});
    }
    if (selected && points.includes(selected)) {
      made.push({x: [valueOf(selected, x)], y: [valueOf(selected, y)], mode: "markers", hoverinfo: "skip", showlegend: false,
                 marker: {symbol: "circle-open", size: 22, color: ink, line: {width: 2.5}}});
    }
    return made;
  };
  const bars = (array, color) => ({type: "data", array, color, thickness: 1, width: 3, visible: array.some((one) => one > 0)});

  const layout = () => {
    const ink = dark.matches ? "#e6e9ee" : "#1c2430", line = dark.matches ? "#3a4350" : "#d9dee5";
    const ax = (title) => ({title: {text: title, standoff: 8}, gridcolor: line, zerolinecolor: line, automargin: true});
    return {
      margin: {l: 48, r: 12, t: narrow() ? 8 : 30, b: 44}, height: narrow() ? 420 : 460, hovermode: "closest", dragmode: narrow() ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: ink, family: "system-ui, sans-serif", size: 12},
      xaxis: ax(axis("x").label), yaxis: ax(axis("y").label),
      modebar: {bgcolor: "rgba(0,0,0,0)", color: dark.matches ? "#a3adba" : "#5b6675", activecolor: ink},
      legend: narrow() ? {orientation: "h", y: -0.25} : {}, hoverlabel: {bgcolor: dark.matches ? "#232a34" : "#ffffff", font: {color: ink}, align: "left"},
    };
  };
  const draw = () => Plotly.react(plot, traces(), layout(), {responsive: true, displaylogo: false, displayModeBar: !narrow(),
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"], toImageButtonOptions: {format: "svg", filename: "aipo-lab"}});

  const mark = (point) => {
    selected = point;
    document.querySelectorAll("[data-trial]").forEach((element) => {
      const same = point && element.dataset.trial === point.trial;
      element.classList.toggle("marked", Boolean(same && (!element.dataset.iteration || Number(element.dataset.iteration) === point.iteration)));
    });
    const width = plot.clientWidth;
    describe(point);
    draw();
    if (plot.clientWidth !== width) Plotly.Plots.resize(plot);
  };
  const describe = (point) => {
    if (!point) { card.hidden = true; return; }
    const line = (label, text) => { const row = document.createElement("div"); row.append(Object.assign(document.createElement("dt"), {textContent: label}), Object.assign(document.createElement("dd"), {textContent: text})); return row; };
    const list = document.createElement("dl");
    list.append(line("trial", point.trial), line("iteration", point.iteration === 0 ? "0 (base model)" : String(point.iteration)));
    for (const ax of [...data.xs, ...data.ys]) if (valueOf(point, ax) !== undefined) list.append(line(ax.label, measured(point, ax)));
    const parts = [Object.assign(document.createElement("h3"), {textContent: `${data.looks[point.contender].name} ${point.setting}`}), list];
    if (point.response !== undefined) {
      parts.push(Object.assign(document.createElement("p"), {className: "asked", textContent: point.prompt}),
                 Object.assign(document.createElement("p"), {className: "answered", textContent: `${point.response} (${point.tokens} tokens)`}));
    }
    const own = document.querySelector(`details[data-trial="${CSS.escape(point.trial)}"]`);
    if (own) {
      const link = Object.assign(document.createElement("a"), {href: "#samples", textContent: "its answers over the iterations"});
      link.addEventListener("click", () => { own.open = true; own.scrollIntoView(); });
      parts.push(link);
    }
    card.replaceChildren(...parts);
    card.hidden = false;
  };
  const step = (by) => {
    if (!selected) return;
    const next = data.points.find((point) => point.trial === selected.trial && point.iteration === selected.iteration + by);
    if (next) mark(next);
  };

  const choose = () => {
    data = all[Number(control("benchmark").value)];
    fill(control("x"), data.xs.map((one) => one.label));
    fill(control("y"), data.ys.map((one) => one.label));
    const iterations = [...new Set(data.points.map((point) => point.iteration))].sort((a, b) => a - b).filter((t) => t > 0);
    control("iteration").replaceChildren(new Option("all, joined by trial", "all"), new Option("the picks", "picked"),
      ...iterations.map((t) => new Option(`iteration ${t}`, String(t))));
    mark(null);
  };
  fill(control("benchmark"), all.map((one) => one.benchmark));
  choose();
  control("benchmark").addEventListener("change", choose);
  for (const name of ["x", "y", "iteration"]) control(name).addEventListener("change", draw);
  plot.on("plotly_click", (event) => { const point = event.points[0].customdata; if (point) mark(point); });
  plot.setAttribute("tabindex", "0");
  plot.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1); else if (event.key === "ArrowLeft") step(-1); else if (event.key === "Escape") mark(null); else return;
    event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-trial]");
    if (!row) return;
    const wanted = row.dataset.iteration === undefined ? undefined : Number(row.dataset.iteration);
    const own = data.points.filter((point) => point.trial === row.dataset.trial);
    mark(own.find((point) => point.iteration === wanted) || own[own.length - 1] || null);
  });
  dark.addEventListener("change", draw);
})();
