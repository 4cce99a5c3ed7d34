// The page of one agent. It shows what /events sends every second, and asks for nothing while nobody looks at it.
'use strict';

const $ = id => document.getElementById(id);
const past = []; // statuses of the last seconds, oldest first: rates are differences of them
const span = 6;
let token = sessionStorage.getItem('token') || '';
let reloads = ''; // which configuration is shown

function element(tag, attributes, ...children) {
  const svg = /^(svg|g|rect|path|text|title)$/.test(tag);
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

// Whole lines of an answer without end, until it ends or signal says so.
async function* lines(path, signal) {
  const answer = await ask(path, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ''; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n');
    rest = parts.pop();
    yield* parts;
  }
}

async function ask(path, signal) {
  const answer = await fetch(path, { signal, cache: 'no-store', headers: token ? { Authorization: 'Bearer ' + token } : {} });
  $('login').hidden = answer.status !== 401;
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer;
}

// Numbers for people.
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const perSecond = n => n === undefined ? '' : n > 0 && n < 10 ? n.toFixed(1) : short.format(Math.round(n));
const percent = n => (n > 0 && n < .01 ? '<1' : Math.round(n * 100)) + ' %';
function age(s) {
  if (s < 1) return Math.round(s * 1000) + ' ms';
  if (s < 120) return s.toFixed(s < 10 ? 1 : 0) + ' s';
  if (s < 7200) return Math.round(s / 60) + ' min';
  return s < 172800 ? Math.round(s / 3600) + ' h' : Math.round(s / 86400) + ' d';
}

// How fast a number of a component grows.
function rate(list, name, key) {
  const first = past[0], last = past[past.length - 1];
  const find = s => (s[list] || []).find(c => c.name === name);
  const a = find(first), b = find(last), t = (Date.parse(last.time) - Date.parse(first.time)) / 1000;
  if (!a || !b || !(t > 0)) return undefined;
  return Math.max(0, b[key] - a[key]) / t;
}

const marks = { good: '✓', warn: '!', bad: '✕' };

// What the status says, as nodes of a graph: the table and the picture are made of the same.
function model(s) {
  const fill = c => c.capacity > 0 ? c.events / c.capacity : undefined;
  const full = new Set((s.channels || []).filter(c => fill(c) >= .98).map(c => c.name));
  const groups = new Set((s.sinks || []).map(k => k.group).filter(Boolean));
  const sources = (s.sources || []).map(c => {
    const stuck = c.channels.filter(n => full.has(n));
    const level = c.error || c.state === 'failed' ? 'bad' : stuck.length || !/running|finished/.test(c.state) ? 'warn' : 'good';
    return { kind: 'source', ...c, level, state: stuck.length && !c.error ? 'blocked: ' + stuck.join(', ') + ' full' : c.state, rate: rate('sources', c.name, 'accepted'), total: c.accepted, errors: c.failures };
  });
  const channels = (s.channels || []).map(c => {
    const f = fill(c), level = c.error ? 'bad' : f >= .8 || c.removed ? 'warn' : 'good';
    return {
      kind: 'channel', ...c, level, fill: f, rate: rate('channels', c.name, 'put'), total: c.events, errors: c.dropped,
      state: c.error ? 'failed' : c.removed ? 'removed, emptying' : f >= .98 ? 'full' : f >= .8 ? 'nearly full' : 'good', old: c.events ? c.ageSeconds : undefined,
    };
  });
  const sinks = (s.sinks || []).filter(k => !groups.has(k.name)).map(k => {
    const bad = k.group ? k.health === 'failed' : k.error;
    const n = rate('sinks', k.name, 'lagEvents'), lag = n > 0 ? rate('sinks', k.name, 'lagSeconds') / n : undefined;
    return {
      kind: 'sink', ...k, level: bad ? 'bad' : k.removed ? 'warn' : 'good', rate: rate('sinks', k.name, 'delivered'), total: k.delivered, errors: k.failures + k.refused, old: lag,
      state: bad ? 'failing' : k.removed ? 'removed' : k.health || 'good',
    };
  });
  return { sources, channels, sinks };
}

function show(s) {
  past.push(s);
  if (past.length > span) past.shift();
  const m = model(s);
  set($('agent'), s.agent);
  document.title = s.agent + ' – Millrace';
  set($('build'), `Millrace ${s.build.version}, ${s.build.go}`);
  const worst = [...m.sources, ...m.channels, ...m.sinks].map(c => c.level);
  const [word, level] = s.drain.msg !== 'running' ? [`${s.drain.msg}, ${s.drain.kept + s.drain.lost} events left`, 'warn']
    : !s.ready ? ['not ready', 'bad'] : worst.includes('bad') ? ['ready, with failures', 'bad'] : worst.includes('warn') ? ['ready, with warnings', 'warn'] : ['ready', 'good'];
  badge(word, level);
  problems(s, m);
  table(m);
  draw(m);
  edges(m);
  if (reload(s.reload) !== reloads) config();
}

function set(e, text) {
  if (e.textContent !== text) e.textContent = text; // what is as it was is not read out again
}

function badge(text, level) {
  $('state').className = 'badge ' + level;
  set($('state'), marks[level] + ' ' + text);
}

// Rows, or items, with a key: those that are there are changed, so that focus and reading stay where they are.
function keyed(parent, items, make, update) {
  const old = new Map([...parent.children].map(e => [e.dataset.key, e]));
  let at = parent.firstElementChild;
  for (const one of items) {
    let e = old.get(one.key);
    old.delete(one.key);
    if (!e) {
      e = make(one);
      e.dataset.key = one.key;
    }
    if (e === at) at = at.nextElementSibling;
    else parent.insertBefore(e, at);
    update(e, one);
  }
  for (const e of old.values()) e.remove();
}

function problems(s, m) {
  const list = [];
  const add = (level, text) => { if (!list.some(p => p.text === text)) list.push({ level, text, key: text }); };
  for (const c of m.sources) if (c.error) add('bad', `source ${c.name}: ${c.error}`); else if (c.level !== 'good') add('warn', `source ${c.name}: ${c.state}`);
  for (const c of m.channels) if (c.error) add('bad', `channel ${c.name}: ${c.error}`); else if (c.level !== 'good') add('warn', `channel ${c.name}: ${c.state}`);
  const groups = new Set(m.sinks.map(k => k.group));
  for (const k of s.sinks || []) if (k.error && !k.group) add('bad', `${groups.has(k.name) ? 'group' : 'sink'} ${k.name}: ${k.error}`);
  for (const k of m.sinks) if (k.group && k.level === 'bad' && !k.error) add('warn', `sink ${k.name} of group ${k.group}: failed, and is left alone for a while`);
  if (s.reload.last && s.reload.last.result !== 'ok') add('bad', 'the last reload failed: see below');
  list.sort((a, b) => (a.level === 'warn') - (b.level === 'warn'));
  keyed($('problems'), list, () => element('li'), (e, p) => { e.className = p.level; set(e, p.text); });
}

function table(m) {
  const rows = [...m.sources, ...m.channels, ...m.sinks].map(c => ({ ...c, key: c.kind + ' ' + c.name }));
  keyed($('components').tBodies[0], rows,
    () => element('tr', {}, element('th', { scope: 'row' }), ...Array.from({ length: 7 }, (_, i) => element('td', i > 1 ? { class: 'n' } : {}))),
    (e, c) => {
      const cells = [c.key, c.type + (c.group ? ' in ' + c.group : ''), marks[c.level] + ' ' + c.state, perSecond(c.rate), short.format(c.total),
        c.fill === undefined ? '' : percent(c.fill), c.old === undefined ? '' : age(c.old), c.errors ? short.format(c.errors) : ''];
      cells.forEach((text, i) => set(e.cells[i], text));
      e.cells[2].className = c.level;
    });
}

// The picture: sources, channels, sinks, from left to right.
function draw(m) {
  const wide = 210, high = 74, gap = 26, between = 215, top = 20;
  const place = new Map();
  const tallest = Math.max(m.sources.length, m.channels.length, m.sinks.length, 1) * (high + gap) - gap;
  const column = (list, i) => {
    const from = top + (tallest - (list.length * (high + gap) - gap)) / 2;
    list.forEach((c, n) => place.set(c.kind + ' ' + c.name, { x: 6 + i * (wide + between), y: from + n * (high + gap) }));
  };
  const names = m.channels.map(c => c.name); // by channel, so that few edges cross; a group has one
  const order = [...m.sinks].sort((a, b) => names.indexOf(a.channel) - names.indexOf(b.channel) || (a.group || '').localeCompare(b.group || ''));
  column(m.sources, 0);
  column(m.channels, 1);
  column(order, 2);
  const svg = $('flow'), all = [];
  const size = [12 + 3 * wide + 2 * between, top + tallest + 12];
  svg.setAttribute('viewBox', `0 0 ${size[0]} ${size[1]}`);
  svg.setAttribute('width', size[0]);
  svg.setAttribute('height', size[1]);
  const line = (from, to, key, n, kind, near) => { // near: at which end the rate stands
    const a = place.get(from), b = place.get(to);
    if (!a || !b) return;
    const back = b.x < a.x, x1 = back ? a.x : a.x + wide, x2 = back ? b.x + wide : b.x, y1 = a.y + high / 2 + (back ? 20 : 0), y2 = b.y + high / 2 + (back ? 20 : 0);
    const bend = (back ? -1 : 1) * between / 2;
    const e = element('path', {
      d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, class: 'edge ' + kind + (n === 0 && !kind ? ' still' : ''),
      'stroke-width': n > 0 ? Math.min(9, 1.5 + Math.log10(1 + n)) : 1.5,
    }, element('title', {}, key));
    e.addEventListener('click', () => { $('edge').value = key; $('watch').focus(); });
    all.push(e);
    if (n !== undefined && !back) all.push(element('text', { x: near ? x1 + 8 : x2 - 8, y: (near ? y1 : y2) - 8, 'text-anchor': near ? 'start' : 'end', class: 'dim' }, perSecond(n) + '/s'));
  };
  for (const s of m.sources) for (const c of s.channels) {
    const only = m.sources.filter(o => o.channels.includes(c)).length === 1;
    line('source ' + s.name, 'channel ' + c, s.name + ':' + c, only ? rate('channels', c, 'put') : s.channels.length === 1 ? s.rate : undefined, '', !only);
  }
  for (const k of m.sinks) {
    line('channel ' + k.channel, 'sink ' + k.name, k.channel + ':' + k.name, k.rate, k.level === 'bad' ? 'bad' : '');
    if (k.deadLetter) line('sink ' + k.name, 'channel ' + k.deadLetter, k.name + ':' + k.deadLetter, undefined, 'dead');
  }
  for (const g of new Set(m.sinks.map(k => k.group).filter(Boolean))) {
    const ys = m.sinks.filter(k => k.group === g).map(k => place.get('sink ' + k.name).y), x = 6 + 2 * (wide + between);
    all.push(element('rect', { class: 'group', x: x - 5, y: Math.min(...ys) - 5, width: wide + 10, height: Math.max(...ys) - Math.min(...ys) + high + 10, rx: 9 }));
    all.push(element('text', { class: 'dim', x, y: Math.min(...ys) - 8 }, 'group ' + g));
  }
  for (const c of [...m.sources, ...m.channels, ...m.sinks]) all.push(box(c, place.get(c.kind + ' ' + c.name), wide, high));
  svg.replaceChildren(...all);
}

function box(c, at, wide, high) {
  const cut = (text, n) => text.length > n ? text.slice(0, n - 1) + '…' : text;
  const x = at.x + 12;
  const g = element('g', {}, element('title', {}, `${c.kind} ${c.name} (${c.type}): ${c.error || c.state}`),
    element('rect', { class: 'box ' + c.level, x: at.x, y: at.y, width: wide, height: high, rx: 7 }),
    element('text', { class: 'name', x, y: at.y + 21 }, cut(c.name, 22)),
    element('text', { class: 'dim', x: at.x + wide - 10, y: at.y + 21, 'text-anchor': 'end' }, cut(c.type, Math.max(4, 24 - c.name.length))));
  const figures = c.kind === 'channel'
    ? `${short.format(c.events)} events` + (c.old === undefined ? '' : `, oldest ${age(c.old)}`)
    : `${short.format(c.total)} events` + (c.errors ? `, ${short.format(c.errors)} errors` : '');
  g.append(element('text', { x, y: at.y + 41 }, figures));
  if (c.fill !== undefined) {
    g.append(element('rect', { class: 'bar', x, y: at.y + 53, width: 104, height: 8, rx: 3 }),
      element('rect', { class: 'full ' + (c.level === 'good' ? '' : c.level), x, y: at.y + 53, width: Math.min(1, c.fill) * 104, height: 8, rx: 3 }),
      element('text', { class: c.level, x: at.x + wide - 10, y: at.y + 61, 'text-anchor': 'end' }, percent(c.fill) + (c.fill >= .98 ? ' full' : '')));
  } else {
    g.append(element('text', { class: c.level, x, y: at.y + 61 }, marks[c.level] + ' ' + cut(c.state, 26)));
  }
  return g;
}

// The edges that can be watched.
function edges(m) {
  const list = [];
  for (const s of m.sources) for (const c of s.channels) list.push(s.name + ':' + c);
  for (const k of m.sinks) {
    list.push(k.channel + ':' + k.name);
    if (k.deadLetter && !k.group) list.push(k.name + ':' + k.deadLetter);
  }
  keyed($('edge'), [{ key: '', text: 'all' }, ...list.map(e => ({ key: e, text: e.replace(':', ' → ') }))],
    e => element('option', { value: e.key }), (e, o) => set(e, o.text));
  const off = past[past.length - 1].tap === 'off';
  $('watch').disabled = off;
  if (off) set($('tap-note'), 'Off: start the agent with --tap full or --tap headers.');
}

let watching = null;
$('tap').addEventListener('submit', async event => {
  event.preventDefault();
  if (watching) {
    watching.abort();
    return;
  }
  const me = watching = new AbortController();
  set($('watch'), 'Stop');
  set($('tap-note'), 'watching');
  let note = 'stopped';
  const q = new URLSearchParams({ rate: $('rate').value });
  if ($('edge').value) q.set('edge', $('edge').value);
  try {
    for await (const text of lines('/tap?' + q, me.signal)) if (text) event1(JSON.parse(text));
  } catch (e) {
    if (e.name !== 'AbortError') note = e.message;
  }
  watching = null;
  set($('watch'), 'Watch');
  set($('tap-note'), note);
});
$('clear').addEventListener('click', () => $('events').replaceChildren());

function event1(e) {
  const list = $('events'), box = list.parentElement;
  const stay = box.scrollTop + box.clientHeight > box.scrollHeight - 30;
  const headers = Object.entries(e.headers).map(([k, v]) => `${k}=${v}`).join(' ');
  const body = e.body ?? (e.base64 ? 'base64 ' + e.base64 : `(${e.bytes} bytes)`);
  list.append(element('li', {}, element('span', { class: 'dim' }, `${e.time.slice(11, 23)} ${e.edge} ${headers} `), body + (e.cut ? ' …' : '')));
  while (list.children.length > 300) list.firstChild.remove();
  if (stay) box.scrollTop = box.scrollHeight;
}

// What the last reload did. Returns what tells one reload from another.
function reload(r) {
  const last = r.last, key = JSON.stringify([last && last.time, r.enabled]);
  if (key === reloads) return key;
  const where = $('reload');
  if (!last) {
    where.replaceChildren(element('p', { class: 'dim' }, r.enabled ? 'None since the start.' : 'None: reloads are switched off.'));
    return key;
  }
  const good = last.result === 'ok';
  const words = { ok: 'taken', partial: 'taken in part', failed: 'not taken: everything goes on as before' };
  const parts = [element('p', { class: good ? 'good' : 'bad' }, `${marks[good ? 'good' : 'bad']} ${new Date(last.time).toLocaleString()}: ${words[last.result]}, in ${last.millis} ms`)];
  const list = element('ul');
  for (const what of ['added', 'removed', 'changed', 'waiting']) for (const c of last[what] || []) list.append(element('li', {}, what + ' ', element('code', {}, c)));
  for (const f of last.faults || []) list.append(element('li', { class: f.severity === 'error' ? 'bad' : 'warn' }, fault(f)));
  if (good && !list.children.length) list.append(element('li', {}, 'nothing differs'));
  where.replaceChildren(...parts, list);
  return key;
}

const fault = f => `${f.line ? f.file + ':' + f.line + ': ' : ''}${f.severity}: ${f.key ? f.key + ': ' : ''}${f.message}${f.hint ? ' (' + f.hint + ')' : ''}`;

async function config() {
  const last = past[past.length - 1].reload;
  reloads = JSON.stringify([last.last && last.last.time, last.enabled]);
  try {
    const c = await (await ask('/config')).json();
    const rows = [], told = new Set();
    for (const l of c.lines) {
      rows.push(element('tr', l.default ? { class: 'dim default' } : {}, element('td', {}, l.default ? 'default' : l.line ? `${l.file.split('/').pop()}:${l.line}` : ''),
        element('td', {}, `${c.agent}.${l.key}`), element('td', {}, l.value)));
      for (const f of c.faults) if (!l.default && f.file === l.file && f.line === l.line && !told.has(f)) {
        told.add(f);
        rows.push(faultRow(f));
      }
    }
    for (const f of c.faults) if (!told.has(f)) rows.unshift(faultRow(f));
    $('config').tBodies[0].replaceChildren(...rows);
    defaults();
  } catch {
    reloads = ''; // again with the next status
  }
}

const faultRow = f => element('tr', { class: 'fault ' + f.severity }, element('td', {}, f.line ? f.file.split('/').pop() + ':' + f.line : ''),
  element('td', { colspan: 2 }, `${f.severity}: ${f.key ? f.key + ': ' : ''}${f.message}${f.hint ? ' (' + f.hint + ')' : ''}`));

function defaults() {
  for (const tr of document.querySelectorAll('#config .default')) tr.hidden = !$('defaults').checked;
}
$('defaults').addEventListener('change', defaults);

$('login').addEventListener('submit', event => {
  event.preventDefault();
  token = $('token').value;
  sessionStorage.setItem('token', token);
  begin();
});

// One stream at a time, none while the page is hidden, and another try after a failure.
let stream = null, again = 0;
async function begin() {
  clearTimeout(again);
  if (stream) stream.abort();
  const me = stream = new AbortController();
  try {
    for await (const text of lines('/events', me.signal)) if (text.startsWith('data: ')) show(JSON.parse(text.slice(6)));
    badge('the agent has ended, or cannot be reached', 'bad');
  } catch (e) {
    if (me.signal.aborted) return;
    badge($('login').hidden ? 'no connection: ' + e.message : 'a token is needed', 'bad');
    if (!$('login').hidden) return $('token').focus();
  }
  past.length = 0;
  again = setTimeout(begin, 2000);
}
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) return begin();
  clearTimeout(again);
  if (stream) stream.abort();
  if (watching) watching.abort();
});
begin();
