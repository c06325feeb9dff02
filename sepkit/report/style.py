"""How reports look, and the little that moves in them."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2024; --soft: #60676e; --line: #dfe3e6; --ground: #f7f8f9; --paper: #ffffff; --accent: #1f5fa8;
  --shade: #f0f3f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9eb; --soft: #9aa3ab; --line: #30363c; --ground: #121517; --paper: #1a1e21; --accent: #7db3ea;
    --shade: #22272b;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 1.5rem max(1rem, env(safe-area-inset-left)) 3rem; max-width: 70rem;
  background: var(--ground); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 0.25rem; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 0 0 0.75rem; letter-spacing: -0.005em; }
h3 { font-size: 1.05rem; margin: 0 0 0.5rem; }
h4 { font-size: 0.95rem; margin: 0 0 0.5rem; }
h4 small { font-weight: 400; }
p { margin: 0 0 0.75rem; max-width: 46rem; }
.lead, .note, caption, footer, small { color: var(--soft); }
.note, footer, small { font-size: 0.85rem; }
.kind {
  color: var(--accent); font-size: 0.8rem; font-weight: 600; letter-spacing: 0.06em; text-transform: uppercase;
  margin: 0;
}
.lead { font-size: 1.05rem; }
section {
  background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem; margin: 0 0 1rem;
  scroll-margin-top: 3.5rem;
}
nav {
  position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 0.25rem; margin: 0 -0.5rem 0.75rem;
  padding: 0.5rem; background: var(--ground);
}
nav a {
  flex: none; color: var(--ink); text-decoration: none; font-size: 0.9rem; padding: 0.25rem 0.75rem;
  border: 1px solid var(--line); border-radius: 999px; background: var(--paper);
}
nav a:hover { border-color: var(--accent); color: var(--accent); }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 0.75rem;
  margin: 1rem 0 0.5rem;
}
.tiles div { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: 0.75rem 1rem; }
.tiles dt { color: var(--soft); font-size: 0.85rem; }
.tiles dd { margin: 0; font-size: 1.4rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles small { display: block; font-weight: 400; font-size: 0.8rem; line-height: 1.35; }
.facts {
  margin: 0 0 0.75rem; display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: 0 2rem;
}
.facts div {
  display: flex; gap: 1rem; justify-content: space-between; border-bottom: 1px solid var(--line);
  padding: 0.3rem 0;
}
.facts dt { color: var(--soft); flex: 0 1 auto; }
.facts dd { margin: 0; text-align: right; min-width: 40%; flex: 0 100 auto; font-variant-numeric: tabular-nums; }
.grid {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem;
  align-items: start;
}
.grid.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.grid.single { grid-template-columns: 100%; gap: 0; }
.grid > * { min-width: 0; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
svg text { fill: currentColor; font-family: inherit !important; }
figcaption { color: var(--soft); font-size: 0.85rem; }
.card { border: 1px solid var(--line); border-radius: 10px; padding: 0.9rem; }
@media (min-width: 52rem) {
  .card:only-child { display: grid; grid-template-columns: minmax(0, 30rem) 1fr; gap: 0 1.5rem; align-items: center; }
  .card:only-child h4 { grid-column: 1 / -1; }
}
.excerpt + .excerpt { border-top: 1px solid var(--line); margin-top: 1.25rem; padding-top: 1.25rem; }
.players {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 0.5rem 1rem;
  margin: 0 0 0.75rem;
}
.card .players { margin: 0.5rem 0 0; }
.player { display: grid; gap: 0.15rem; font-size: 0.85rem; color: var(--soft); min-width: 0; }
audio { width: 100%; height: 40px; }
.scroll { overflow-x: auto; margin: 0 0 1rem; -webkit-overflow-scrolling: touch; }
table {
  border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; min-width: min(100%, 24rem);
}
caption { text-align: left; padding: 0 0 0.35rem; font-size: 0.9rem; }
th, td {
  padding: 0.35rem 0.75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  white-space: nowrap;
}
th[scope="row"] {
  font-weight: 500; position: sticky; left: 0; background: var(--paper); max-width: 45vw; overflow: hidden;
  text-overflow: ellipsis;
}
thead th { font-weight: 600; color: var(--soft); font-size: 0.85rem; }
thead th:first-child { position: sticky; left: 0; background: var(--paper); }
td.number, th.number { text-align: right; }
tbody tr:has(+ tr > th:empty) > * { border-bottom-color: transparent; padding-bottom: 0; }
tr.own > * { font-weight: 600; }
tr.own .interval { font-weight: 400; }
.interval { display: block; color: var(--soft); font-size: 0.75rem; line-height: 1.2; }
details { margin: 0 0 0.75rem; }
details:last-child { margin-bottom: 0; }
details caption { display: none; }
summary { cursor: pointer; padding: 0.35rem 0; font-weight: 500; }
summary:hover { color: var(--accent); }
pre {
  margin: 0; padding: 0.9rem; background: var(--shade); border-radius: 8px; overflow-x: auto; line-height: 1.45;
  font: 0.8rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 40rem) {
  body { padding-left: 0.75rem; padding-right: 0.75rem; }
  section { padding: 1rem 0.9rem; scroll-margin-top: 0.5rem; }
  nav { position: static; }
  .card { padding: 0.6rem; }
  h1 { font-size: 1.45rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 0.5rem; }
  .tiles div { padding: 0.6rem 0.75rem; }
  .tiles dd { font-size: 1.2rem; }
}
@media print { nav, audio { display: none; } section { break-inside: avoid; } }
"""

# One player at a time; another one of the same excerpt goes on where that one was, so that both can be compared.
SCRIPT = """
document.addEventListener("play", function (event) {
  var started = event.target;
  document.querySelectorAll("audio").forEach(function (other) {
    if (other === started || other.paused) return;
    other.pause();
    if (other.dataset.group === started.dataset.group) started.currentTime = other.currentTime;
  });
}, true);
"""
