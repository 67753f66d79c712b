"""The page's style: light and dark by what the reader's system prefers, black on white in print. Nothing is fetched."""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1a2230;--soft:#5b6677;--line:#dfe3e9;--grid:#e8ebf0;
--good:#3b76c4;--fill:#3b76c433;--warn:#c98a12;--bad:#c8372d;--ok:#2c8a57;
--tint-bad:#fbeceb;--tint-warn:#fdf5e4;--tint-ok:#eaf6ef}
@media (prefers-color-scheme:dark){:root{--page:#12161d;--card:#1a2029;--ink:#e7ebf1;--soft:#9aa6b6;
--line:#2d3541;--grid:#262d38;--good:#6fa4e8;--fill:#6fa4e833;--warn:#e3ad45;--bad:#f0736a;--ok:#5cc08a;
--tint-bad:#3a2123;--tint-warn:#352b18;--tint-ok:#1a3126}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:980px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:18px;margin:0 0 4px}
h3{font-size:15px;margin:20px 0 2px}
p{margin:4px 0 10px}
.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:16px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:16px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.tile b{display:block;font-size:23px;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{display:block;color:var(--soft);font-size:13px}
.tile.bad b{color:var(--bad)}.tile.warn b{color:var(--warn)}
ul.attention{list-style:none;margin:10px 0 0;padding:0}
ul.attention li{border-left:4px solid var(--ok);background:var(--tint-ok);padding:8px 12px;
margin:6px 0;border-radius:0 6px 6px 0;overflow-wrap:anywhere}
ul.attention li.critical{border-color:var(--bad);background:var(--tint-bad)}
ul.attention li.warning{border-color:var(--warn);background:var(--tint-warn)}
ul.attention .hint{display:block;color:var(--soft);font-size:13px}
.mark{font-size:12px;font-weight:600;text-transform:uppercase;letter-spacing:.04em;margin-right:6px}
.critical .mark,.word-bad{color:var(--bad)}.warning .mark,.word-warn{color:var(--warn)}.ok .mark,.word-ok{color:var(--ok)}
.word-bad,.word-warn,.word-ok{font-weight:600}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin:8px 0 4px}
th{color:var(--soft);font-weight:600;text-align:left;font-size:12.5px;white-space:nowrap}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.long{overflow-wrap:anywhere;min-width:15em}
td.number,th.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td code{overflow-wrap:normal}
td.when{white-space:nowrap;font-variant-numeric:tabular-nums}
code{font:12.5px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
svg.chart{display:block;width:100%;min-width:540px;height:auto;margin:6px 0}
svg.proportion{display:block;width:100%;height:12px;margin:6px 0;border-radius:6px}
svg .good{fill:var(--good)}svg .warn{fill:var(--warn)}svg .bad{fill:var(--bad)}svg .ok{fill:var(--ok)}
svg .rest{fill:var(--grid)}
svg .slice{shape-rendering:crispEdges}
svg .grid{stroke:var(--grid);stroke-width:1}
svg .target{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:5 4}
svg .area{fill:var(--fill)}svg .line{fill:none;stroke:var(--good);stroke-width:2}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
svg text.value{fill:var(--ink);font-weight:600}
.key{display:inline-block;margin-right:16px;font-size:13px;color:var(--soft)}
.key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
.key i.area{background:var(--fill)}.key i.ok{background:var(--ok)}
.key i.good{background:var(--good)}.key i.warn{background:var(--warn)}.key i.bad{background:var(--bad)}
.key i.target{height:0;width:16px;border-top:2px dashed var(--ink);border-radius:0;vertical-align:middle}
footer{color:var(--soft);font-size:13px;margin-top:20px}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--grid:#ddd;
--good:#3b76c4;--fill:#3b76c433;--warn:#b87a08;--bad:#b3261e;--ok:#217346;--tint-bad:#fff;--tint-warn:#fff;--tint-ok:#fff}
body{font-size:11pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}main{max-width:none;padding:0}
section,.tile{border-color:#bbb;padding:10px 12px}h2,h3{break-after:avoid}
svg,tr,li,.tile{break-inside:avoid}.scroll{overflow:visible}
svg.chart{min-width:0}}
"""
