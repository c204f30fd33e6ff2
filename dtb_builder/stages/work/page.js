// What all pages share: their data, menus, and plots that follow the browser's theme and width.
const data = JSON.parse(document.getElementById('data').textContent);
const narrow = matchMedia('(max-width: 700px)');
const dark = matchMedia('(prefers-color-scheme: dark)');
const touched = matchMedia('(pointer: coarse)');
const figures = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function axis(title, more = {}) {
  const line = colour('line');
  return {title: {text: title, standoff: 8}, gridcolor: line, linecolor: line, zerolinecolor: line,
          automargin: true, ...more};
}

// Whole numbers only: no tick between two epochs, and no half runs.
function whole(title, last, more = {}) {
  const most = narrow.matches ? 6 : 13;
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find(each => last / each < most) ?? 1000;
  return axis(title, {dtick: step, tick0: 0, tickformat: ',d', ...more});
}

function draw(element) {
  const {figure, clicked} = figures.get(element);
  const {traces, layout} = figure();
  const first = element.data === undefined;
  Plotly.react(element, traces, {
    font: {family: 'system-ui, sans-serif', size: 12, color: colour('text')},
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    margin: {l: 50, r: 12, t: 28, b: 45}, hovermode: 'closest', showlegend: false,
    hoverlabel: {bgcolor: colour('raised'), bordercolor: colour('line'),
                 font: {color: colour('text')}},
    modebar: {color: colour('soft'), activecolor: colour('accent'), bgcolor: 'rgba(0,0,0,0)'},
    // A finger that moves over a plot scrolls the page.
    dragmode: narrow.matches || touched.matches ? false : 'zoom',
    ...layout,
  }, {
    responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : 'hover',
    modeBarButtons: [['zoom2d', 'pan2d', 'resetScale2d', 'toImage']],
  });
  if (first) element.on('plotly_click', event => clicked(event.points[0]));
}

// Plots are drawn when they come near the window.
const near = new IntersectionObserver(entries => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    near.unobserve(entry.target);
    draw(entry.target);
  }
}, {rootMargin: '300px'});

function plot(id, figure, clicked = () => {}) {
  const element = document.getElementById(id);
  if (element === null) return;
  figures.set(element, {figure, clicked});
  near.observe(element);
}

function redraw() {
  for (const element of figures.keys()) if (element.data !== undefined) draw(element);
}

dark.addEventListener('change', redraw);
narrow.addEventListener('change', redraw);
addEventListener('beforeprint', () => [...figures.keys()].forEach(draw));

// A menu's choice; `changed` is called when it changes.
function menu(id, names, changed) {
  const element = document.getElementById(id);
  for (const [value, name] of names) element.add(new Option(name, value));
  element.addEventListener('change', changed);
  return element;
}

// A button for each series that shows or hides it; returns the set of those that are shown.
function chips(id, colours, shown, changed) {
  const on = new Set(shown);
  for (const [name, value] of Object.entries(colours)) {
    const button = document.createElement('button');
    button.textContent = name;
    button.style.setProperty('--colour', value);
    button.setAttribute('aria-pressed', on.has(name));
    button.addEventListener('click', () => {
      if (!on.delete(name)) on.add(name);
      button.setAttribute('aria-pressed', on.has(name));
      changed();
    });
    document.getElementById(id).append(button);
  }
  return on;
}
