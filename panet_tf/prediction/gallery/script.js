'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const byId = id => document.getElementById(id);
const BATCH = 60;  // Cards made at a time, as one scrolls.
const collator = new Intl.Collator('en', {numeric: true});
const KEYS = [
  ['name', 'file name'], ['detections', 'detections'], ['best', 'best score'],
  ['mean', 'mean score']].concat(data.truth ? [
    ['ap50', 'AP50'], ['errors', 'errors'],
    ['false_positives', 'false positives'], ['missed', 'missed'],
    ['wrong_class', 'wrong class'], ['duplicates', 'duplicates']] : []);
const state = {};  // sort, dir, class, min, image: see `read`.
let order = [];  // Images that are shown, as places in data.images.
let made = 0;  // Cards so far.

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

const plural = (count, noun) =>
  `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
const fixed = value => value === null ? '–' : value.toFixed(2);

function errorsText(counts) {
  const parts = [
    plural(counts.false_positives, 'false positive'),
    `${counts.missed.toLocaleString('en')} missed`,
    `${counts.wrong_class.toLocaleString('en')} wrong class`,
    plural(counts.duplicates, 'duplicate')];
  return parts.filter(part => !part.startsWith('0 ')).join(', ');
}

function summary() {
  const sum = key => data.images.reduce((total, each) => total + each[key], 0);
  const parts = [
    plural(data.images.length, 'image'),
    `${plural(sum('detections'), 'detection')} (score ≥ ${data.threshold})`];
  if (data.truth) {
    const scored = data.images.filter(each => each.ap50 !== null);
    const mean = scored.reduce((total, each) => total + each.ap50, 0);
    parts.push(plural(sum('truths'), 'object'));
    if (scored.length) {
      parts.push(`mean AP50 ${fixed(mean / scored.length)} over ` +
                 plural(scored.length, 'image'));
    }
    const counts = {};
    for (const [key] of KEYS.slice(6)) counts[key] = sum(key);
    const kinds = errorsText(counts);
    parts.push(plural(sum('errors'), 'error') + (kinds ? ` (${kinds})` : ''));
  }
  byId('summary').textContent = parts.join(' · ');
}

function picture(image, lazy) {
  const missing = () => element('span', '', 'no picture');
  if (!image.url) return missing();
  const img = element('img');
  img.alt = '';
  if (lazy) img.loading = 'lazy';
  img.addEventListener('error', () => img.replaceWith(missing()));
  img.src = image.url;
  return img;
}

function facts(image) {
  const parts = [element('span', 'numbers', [
    plural(image.detections, 'detection') +
      (data.truth ? `, ${plural(image.truths, 'object')}` : ''),
    ...(image.detections ? [
      `best ${fixed(image.best)}, mean ${fixed(image.mean)}`] : []),
    ...(data.truth ? [`AP50 ${fixed(image.ap50)}`] : [])].join(' · '))];
  if (data.truth) {
    parts.push(image.errors ?
      element('span', 'errors',
              `${plural(image.errors, 'error')}: ${errorsText(image)}`) :
      element('span', 'numbers', 'no errors'));
  }
  const chips = element('span', 'chips');
  for (const [place, count] of image.counts) {
    const chip = element('span', 'chip');
    const dot = element('span', 'dot');
    dot.style.backgroundColor = data.classes[place].color;
    chip.append(dot, `${data.classes[place].name}: ${count}`);
    chips.append(chip);
  }
  parts.push(chips);
  return parts;
}

function card(position) {
  const image = data.images[order[position]];
  const button = element('button', 'card');
  button.type = 'button';
  const thumb = element('span', 'thumb');
  thumb.append(picture(image, true));
  const text = element('span', 'text');
  const name = element('span', 'name', image.name);
  name.title = image.name;
  text.append(name, ...facts(image));
  button.append(thumb, text);
  button.addEventListener('click', () => go({image: order[position]}));
  return button;
}

function count(image) {
  if (state.class === '') return image.detections;
  const pair = image.counts.find(([place]) => String(place) === state.class);
  return pair ? pair[1] : 0;
}

function compare(a, b) {
  const [x, y] = [data.images[a][state.sort], data.images[b][state.sort]];
  if (x === null || y === null) {  // Without a value: last, either way.
    return (x === null) - (y === null) || a - b;
  }
  const rise = state.sort === 'name' ? collator.compare(x, y) : x - y;
  return (state.dir === 'asc' ? rise : -rise) || a - b;
}

function more() {
  const grid = byId('grid');
  const end = Math.min(order.length, made + BATCH);
  for (; made < end; made++) grid.append(card(made));
  // Anew, as it tells only once of an end that stays in view.
  watcher.unobserve(byId('more'));
  watcher.observe(byId('more'));
}

function fill() {
  const least = Math.max(state.min, state.class === '' ? 0 : 1);
  order = data.images.map((_, place) => place).filter(
    place => count(data.images[place]) >= least).sort(compare);
  byId('sort').value = state.sort;
  byId('class').value = state.class;
  if (byId('min') !== document.activeElement) byId('min').value = state.min;
  byId('direction').textContent =
    state.dir === 'asc' ? '↑ rising' : '↓ falling';
  byId('shown').textContent = order.length === data.images.length ? '' :
    `${order.length} of ${plural(data.images.length, 'image')}`;
  byId('grid').replaceChildren();
  made = 0;
  more();
}

function show() {
  const viewer = byId('viewer');
  const position = order.indexOf(state.image);
  if (position < 0) {
    if (viewer.open) viewer.close();
    return;
  }
  const image = data.images[state.image];
  byId('title').textContent = image.name;
  byId('position').textContent = `${position + 1} / ${order.length}`;
  byId('previous').disabled = position === 0;
  byId('next').disabled = position === order.length - 1;
  byId('stage').replaceChildren(picture(image, false));
  byId('details').replaceChildren(...facts(image));
  if (!viewer.open) viewer.showModal();
}

function step(by) {
  const place = order[order.indexOf(state.image) + by];
  if (place !== undefined) go({image: place});
}

function read() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const whole = (key, end) => {
    const value = wanted.get(key) ?? '';
    return /^\d{1,9}$/.test(value) && Number(value) < end ? Number(value) : -1;
  };
  state.sort = KEYS.some(([key]) => key === wanted.get('sort')) ?
    wanted.get('sort') : 'name';
  state.dir = wanted.get('dir') === 'desc' ? 'desc' : 'asc';
  const place = whole('class', data.classes.length);
  state.class = place < 0 ? '' : String(place);
  state.min = Math.max(0, whole('min', 1e9));
  state.image = whole('image', data.images.length);
}

function go(change) {
  Object.assign(state, change);
  const shown = new URLSearchParams({sort: state.sort, dir: state.dir});
  if (state.class !== '') shown.set('class', state.class);
  if (state.min) shown.set('min', state.min);
  if (state.image >= 0) shown.set('image', state.image);
  history.replaceState(null, '', `#${shown}`);
  if (!('image' in change)) fill();
  show();
}

const watcher = new IntersectionObserver(entries => {
  const isNear = entries.some(entry => entry.isIntersecting);
  if (isNear && made < order.length) more();
}, {rootMargin: '1200px'});

function option(value, text) {
  return Object.assign(element('option', '', text), {value});
}

document.body.classList.toggle('truth', data.truth);
byId('sort').append(...KEYS.map(([key, text]) => option(key, text)));
byId('class').append(option('', 'all'), ...data.classes.map(
  ({name}, place) => option(place, name)));
byId('controls').addEventListener('submit', event => event.preventDefault());
// Numbers begin with the largest, but AP50 with the worst.
byId('sort').addEventListener('change', event => go({
  sort: event.target.value,
  dir: ['name', 'ap50'].includes(event.target.value) ? 'asc' : 'desc'}));
byId('direction').addEventListener(
  'click', () => go({dir: state.dir === 'asc' ? 'desc' : 'asc'}));
byId('class').addEventListener(
  'change', event => go({class: event.target.value}));
byId('min').addEventListener('input', event => go({
  min: Math.max(0, Math.floor(Number(event.target.value)) || 0)}));
byId('previous').addEventListener('click', () => step(-1));
byId('next').addEventListener('click', () => step(1));
byId('close').addEventListener('click', () => byId('viewer').close());
byId('viewer').addEventListener('close', () => {
  const position = order.indexOf(state.image);
  if (state.image >= 0) go({image: -1});
  while (position >= made) more();
  if (position >= 0) byId('grid').children[position].focus();
});
document.addEventListener('keydown', event => {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (by && byId('viewer').open) {
    event.preventDefault();
    step(by);
  }
});
window.addEventListener('hashchange', () => { read(); fill(); show(); });
summary();
read();
fill();
show();
