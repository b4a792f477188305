// Keeps a page live: takes the server's events, puts new markup (escaped there) into its places, draws the charts.
"use strict";
(() => {
  const body = document.body, page = body.dataset.page;
  const charts = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const SERIES = ["--accent", "--second", "--muted"];

  const formats = {
    ms: v => v == null ? "—" : v >= 1000 ? (v / 1000).toFixed(1) + " s" : v.toFixed(v < 10 ? 1 : 0) + " ms",
    percent: v => v == null ? "—" : v.toFixed(1) + " %",
    number: v => v == null ? "—" : Math.abs(v) >= 1000 ? v.toLocaleString("en") : String(+v.toPrecision(4)),
  };

  function options(node) {
    const format = formats[node.dataset.unit] || formats.number;
    const labels = JSON.parse(node.dataset.labels), time = node.dataset.x !== "number";
    const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    return {
      width: node.clientWidth || 320, height: 180, pxAlign: true,
      cursor: { points: { size: 6 }, drag: { x: false, y: false } },
      legend: { live: true },
      scales: { x: { time }, y: { range: (u, low, high) => low == null ? [0, 1] : [Math.min(0, low), high > 0 ? high * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 64, values: (u, ticks) => ticks.map(format) }],
      series: [{ value: (u, v) => v == null ? "—" : time ? new Date(v * 1000).toLocaleTimeString() : String(+v.toFixed(2)) }].concat(labels.map((label, at) => ({
        label, stroke: style(SERIES[at]), width: 2, spanGaps: false, dash: at === 1 ? [5, 4] : undefined,
        points: { show: !time }, value: (u, v) => format(v),
      }))),
    };
  }

  function draw(name, data) {
    const node = document.querySelector(`[data-chart="${CSS.escape(name)}"]`);
    if (!node) return;
    const empty = !data.length || data[0].length < 2 || !data.slice(1).some(one => one.some(v => v != null));
    node.hidden = empty;
    const note = node.parentElement.querySelector(".empty");
    if (note) note.hidden = !empty;
    if (empty) return;
    node.data = data;
    const known = charts.get(name);
    if (known) { known.setData(data); return; }
    charts.set(name, new uPlot(options(node), data, node));
  }

  function redraw() {
    for (const [name, chart] of [...charts]) { // a copy: drawing adds to it
      const node = document.querySelector(`[data-chart="${CSS.escape(name)}"]`), data = node.data;
      chart.destroy();
      charts.delete(name);
      draw(name, data);
    }
  }

  function place(html) {
    const found = new DOMParser().parseFromString(html, "text/html");
    for (const fresh of found.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (!old || old.innerHTML === fresh.innerHTML) continue;
      // What has the keyboard's focus, or is being marked, is left alone until the next time.
      const selection = getSelection();
      if (old.contains(document.activeElement) || (selection && !selection.isCollapsed && old.contains(selection.anchorNode))) continue;
      old.replaceChildren(...fresh.childNodes);
    }
  }

  const state = document.getElementById("connection");
  function say(words, lost) {
    if (state && state.textContent !== words) { state.textContent = words; state.classList.toggle("lost", lost); }
  }

  const initial = document.getElementById("charts");
  if (initial) for (const [name, data] of Object.entries(JSON.parse(initial.textContent))) draw(name, data);
  let resizing;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(redraw, 150); });
  dark.addEventListener("change", redraw);

  if (page && body.dataset.live === "yes") {
    const asked = new URLSearchParams(location.search).get("id") || "";
    const source = new EventSource(`/live/${page}?id=${encodeURIComponent(asked)}`);
    source.onmessage = message => {
      const told = JSON.parse(message.data);
      place(told.html);
      for (const [name, data] of Object.entries(told.charts)) draw(name, data);
      say("Live", false);
      body.dataset.updates = String(1 + Number(body.dataset.updates || 0));
    };
    source.onerror = () => say("Not live: the dashboard does not answer. What you see is old.", true);
    addEventListener("pagehide", () => source.close());
  }
})();
