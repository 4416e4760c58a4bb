"""The page of a gallery: what is the same in all of them.

@@NAME@@ is where `gallery` puts in what differs.
"""

PAGE = '''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';
 img-src 'self' file:; style-src 'unsafe-inline';
 script-src 'sha256-@@SCRIPT_HASH@@'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Detections</title>
<style>@@STYLE@@</style>
</head>
<body>
<header>
<h1>Detections</h1>
<p id="summary"></p>
<form id="controls">
<label>Sort by <select id="sort"></select></label>
<button type="button" id="direction"></button>
<label>Class <select id="class"></select></label>
<label>At least <input id="min" type="number" min="0" step="1" value="0">
detections</label>
<output id="shown" aria-live="polite"></output>
</form>
</header>
<main id="grid"></main>
<p id="more" aria-hidden="true"></p>
<noscript><p>This page sorts and shows its pictures by a script of its own,
which this browser does not run.</p></noscript>
<dialog id="viewer" aria-label="Picture">
<div id="bar">
<strong id="title"></strong>
<span id="position"></span>
<button type="button" id="previous" aria-label="Previous picture">&#8592;
</button>
<button type="button" id="next" aria-label="Next picture">&#8594;</button>
<button type="button" id="close" aria-label="Close">&#10005;</button>
</div>
<div id="stage"></div>
<div id="details"></div>
</dialog>
<script type="application/json" id="data">@@DATA@@</script>
<script>@@SCRIPT@@</script>
</body>
</html>
'''

STYLE = '''
:root { --back: #f4f4f6; --card: #fff; --ink: #1b1b20; --soft: #5c5c68;
  --line: #d9d9e0; --accent: #0b63ce; --bad: #b3261e; --stage: #15151a; }
@media (prefers-color-scheme: dark) {
  :root { --back: #131317; --card: #1e1e24; --ink: #ececf1; --soft: #a0a0ad;
    --line: #34343d; --accent: #7db4ff; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
header { position: sticky; top: 0; z-index: 1; padding: 12px 20px;
  background: var(--back); border-bottom: 1px solid var(--line); }
h1 { display: inline; margin: 0 12px 0 0; font-size: 19px; }
#summary { display: inline; margin: 0; color: var(--soft); }
#controls { display: flex; flex-wrap: wrap; gap: 8px 16px; margin-top: 10px;
  align-items: center; }
select, input, button { font: inherit; color: inherit; padding: 4px 8px;
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
select { max-width: 240px; }
input { width: 5em; }
button { cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 1px; }
#shown { margin-left: auto; color: var(--soft); }
#grid { display: grid; gap: 14px; padding: 16px 20px; --column: 250px;
  grid-template-columns:
    repeat(auto-fill, minmax(min(100%, var(--column)), 1fr)); }
.truth #grid { --column: 400px; }
.card { display: flex; flex-direction: column; padding: 0; overflow: hidden;
  text-align: left; border-radius: 10px; content-visibility: auto;
  contain-intrinsic-size: auto 270px; }
.card:hover { border-color: var(--accent); }
.thumb { width: 100%; aspect-ratio: 4 / 3; background: var(--stage);
  display: grid; place-items: center; color: #a0a0ad; overflow: hidden; }
.truth .thumb { aspect-ratio: 2 / 1; }
.thumb img { width: 100%; height: 100%; object-fit: contain; display: block; }
.text { display: block; width: 100%; padding: 8px 12px 10px; }
.name { display: block; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; font-weight: 600; }
.numbers { display: block; color: var(--soft); }
.errors { display: block; color: var(--bad); }
.chips { display: flex; flex-wrap: wrap; gap: 2px 12px; margin-top: 4px; }
.chip { display: inline-flex; align-items: center; gap: 6px; max-width: 100%;
  overflow-wrap: anywhere; }
.dot { flex: none; width: 11px; height: 11px; border-radius: 50%;
  border: 1px solid rgba(0, 0, 0, 0.35); }
#more { height: 1px; margin: 0; }
noscript p { padding: 0 20px; }
dialog { width: 100vw; height: 100vh; max-width: none; max-height: none;
  margin: 0; padding: 0; border: 0; color: #ececf1; background: #101014; }
dialog[open] { display: flex; flex-direction: column; }
dialog button { background: #26262e; border-color: #44444f; }
#bar { display: flex; gap: 8px; align-items: center; padding: 8px 14px; }
#title { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#position { flex: 1; white-space: nowrap; color: #a0a0ad; }
#stage { flex: 1; position: relative; display: grid; place-items: center;
  color: #a0a0ad; }
#stage img { position: absolute; width: 100%; height: 100%;
  object-fit: contain; }
#details { padding: 8px 14px 12px; --soft: #b8b8c4; --bad: #ff8a80; }
@media (max-width: 560px) {
  header { position: static; }
  header, #grid { padding-left: 12px; padding-right: 12px; } }
'''
