// The figures of a report.
const metric = menu('metric', [], () => { redraw(); say(); });
const NUM_SHADES = 8;
const sizes = data.parameters.reduce(([low, high], each) => [Math.min(low, each), Math.max(high, each)],
                                     [Infinity, -Infinity]);
let chosen = null;  // a genotype

// From blue, the fewest parameters, to orange, the most.
const shade = i => `hsl(${215 + i * 170 / (NUM_SHADES - 1)}, 55%, ${dark.matches ? 65 : 48}%)`;
const shadeOf = parameters =>
  Math.min(NUM_SHADES - 1, Math.floor(NUM_SHADES * (parameters - sizes[0]) / (sizes[1] - sizes[0] || 1)));

function genotypeText(code) {
  const cell = digits => '[' + digits.match(/../g).map(
    ([operation, node]) => `('${data.operations[operation]}', ${node})`).join(', ') + ']';
  return `Genotype(normal=${cell(code.slice(0, 16))}, normal_concat=[2, 3, 4, 5], ` +
         `reduce=${cell(code.slice(16))}, reduce_concat=[2, 3, 4, 5])`;
}

function about(i) {
  const values = Object.entries(data.metrics).map(([name, each]) => [name, each.last[i]]);
  return `run ${data.number[i]}, seed ${data.seed[i]}: ${data.parameters[i].toLocaleString()} parameters, ` +
    values.filter(([name, value]) => value !== null && !name.endsWith('seconds'))
      .map(([name, value]) => `${name} ${value}`).join(', ');
}

function choose(code) {
  chosen = code;
  const runs = data.genotype.flatMap((each, i) => each === code ? [i] : []);
  const lines = runs.map(i => Object.assign(document.createElement('div'), {textContent: about(i)}));
  const text = Object.assign(document.createElement('code'), {id: 'genotype', textContent: genotypeText(code)});
  const panel = document.getElementById('chosen');
  const close = Object.assign(document.createElement('button'), {textContent: 'Close', onclick: () => {
    chosen = null;
    panel.hidden = true;
    redraw();
  }});
  panel.replaceChildren(close, ...lines, text);
  panel.hidden = false;
  redraw();
}

const unit = () => metric.value.endsWith('seconds') ? `${metric.value}, summed` : metric.value;

function curves() {
  const {epochs, curves, spread: [low, middle, high]} = data.metrics[metric.value];
  // One trace for all curves of a colour: Plotly is slow with hundreds of traces.
  const lines = (those, color, width, opacity) => {
    const trace = {x: [], y: [], customdata: [], text: [], mode: epochs.length < 20 ? 'lines+markers' : 'lines',
                   line: {width, color}, opacity, marker: {size: 4},
                   hovertemplate: 'run %{text}, epoch %{x}: %{y}<extra></extra>'};
    data.drawn.forEach((row, i) => {
      if (!those(row)) return;
      for (const [at, epoch] of [...epochs, null].entries()) {
        const value = epoch === null ? null : curves[i][at];
        if (epoch !== null && value === null) continue;  // not measured
        trace.x.push(epoch);
        trace.y.push(value);
        trace.customdata.push(row);
        trace.text.push(data.number[row]);
      }
    });
    return trace;
  };
  const shades = [...Array(NUM_SHADES).keys()].map(i => lines(
    row => shadeOf(data.parameters[row]) === i, shade(i), 1, chosen === null ? .6 : .25));
  const band = (y, more) => ({x: epochs, y, mode: 'lines', line: {width: 0}, hoverinfo: 'skip', ...more});
  const marks = {
    x: data.kept, y: data.kept.map(() => 0), yaxis: 'y2', mode: 'markers', cliponaxis: false,
    marker: {symbol: 'triangle-up', size: 8, color: colour('soft')},
    hovertemplate: 'states kept at epoch %{x}<extra></extra>',
  };
  return {
    traces: [...shades, lines(row => data.genotype[row] === chosen, colour('marked'), 3, 1), band(low),
             band(high, {fill: 'tonexty', fillcolor: 'rgba(128,128,128,.2)'}),
             band(middle, {line: {width: 2.5, color: colour('text')}}), marks],
    layout: {
      xaxis: whole('epoch', data.num_epochs, {fixedrange: true}), yaxis: axis(unit()),
      yaxis2: {overlaying: 'y', range: [0, 1], visible: false, fixedrange: true},
    },
  };
}

function seeds() {
  const each = data.metrics[metric.value].seeds;
  if (each === null) return {traces: [], layout: {}};
  const ranks = each.mean.map((_, i) => i + 1);
  return {
    traces: [{
      x: ranks, y: each.mean, mode: 'markers', marker: {size: 5, color: colour('accent')},
      error_y: {type: 'data', symmetric: false, width: 0, thickness: 1.2, color: colour('accent'),
                array: each.high.map((high, i) => high - each.mean[i]),
                arrayminus: each.low.map((low, i) => each.mean[i] - low)},
      hovertemplate: 'mean %{y}<extra></extra>',
    }],
    layout: {xaxis: whole('genotypes, sorted by their mean', ranks.length), yaxis: axis(unit())},
  };
}

function say() {
  const text = document.getElementById('spread');
  const each = data.metrics[metric.value].seeds;
  if (text === null) return;
  text.textContent = each === null ? `No genotype has ${metric.value} for two seeds.` :
    `${each.genotypes.toLocaleString()} genotypes with several runs: the mean, and the range over their seeds. ` +
    `${unit()} has a standard deviation of ${each.within.toPrecision(3)} between seeds` +
    (each.between === null ? '.' : ` and of ${each.between.toPrecision(3)} between the means of genotypes.`);
}

// WebGL where there are many points, unless the browser has none.
function scatter(count) {
  return count > 2000 && document.createElement('canvas').getContext('webgl') ? 'scattergl' : 'scatter';
}

function points() {
  const y = data.metrics[metric.value].last;
  const many = y.length > 2000;
  const marked = y.flatMap((_, i) => data.genotype[i] === chosen ? [i] : []);
  const type = scatter(y.length);
  const at = rows => ({x: rows.map(i => data.parameters[i]), y: rows.map(i => y[i]), customdata: rows});
  const hovertemplate = '%{text}: %{x:,} parameters, %{y}<extra></extra>';
  return {
    traces: [
      {type, x: data.parameters, y, customdata: y.map((_, i) => i), text: data.number.map(each => `run ${each}`),
       mode: 'markers', hovertemplate,
       marker: {size: many ? 3 : 7, opacity: many ? .35 : .75, color: colour('accent')}},
      {type, ...at(marked), text: marked.map(i => `run ${data.number[i]}`), mode: 'markers', hovertemplate,
       marker: {size: 11, color: colour('marked')}},
    ],
    layout: {xaxis: axis('parameters'), yaxis: axis(unit())},
  };
}

function bars(histogram, title) {
  const {from, width, counts} = histogram;
  const most = Math.max(...counts);
  return {
    traces: [{
      type: 'bar', x: counts.map((_, i) => from + (i + .5) * width), y: counts, width,
      marker: {color: colour('accent'), line: {color: colour('page'), width: 1}},
      hovertemplate: '%{y:,} runs near %{x}<extra></extra>',
    }],
    layout: {xaxis: axis(title), yaxis: most < 13 ? whole('runs', most) : axis('runs', {tickformat: ',d'})},
  };
}

function taus() {
  const {moments, taus, colours} = data.scores;
  return {
    traces: Object.keys(taus).filter(each => series.has(each)).map(each => ({
      name: each, x: moments, y: taus[each], mode: 'lines+markers', line: {color: colours[each]},
      hovertemplate: `${each} at %{x}: %{y:.3f}<extra></extra>`,
    })),
    layout: {xaxis: axis('', {type: 'category'}), yaxis: axis("Kendall's tau")},
  };
}

function scored() {
  const {genotype, accuracy, values} = data.scores.points[moment.value];
  return {
    traces: [{
      x: values[score.value] ?? [], y: accuracy, mode: 'markers', customdata: genotype,
      marker: {size: 6, opacity: .7, color: data.scores.colours[score.value]},
      hovertemplate: '%{x:.5g}, %{y}<extra></extra>',
    }],
    layout: {xaxis: axis(`${score.value}, ${data.scores.moments[moment.value]}`), yaxis: axis('valid_accuracy')},
  };
}

function paintScale() {
  document.querySelector('.scale').style.background = `linear-gradient(90deg, ${[...Array(NUM_SHADES).keys()].map(shade)})`;
}

document.getElementById('fewest').textContent = sizes[0].toLocaleString();
document.getElementById('most').textContent = sizes[1].toLocaleString();
paintScale();
dark.addEventListener('change', paintScale);
say();

let score, moment, series;
if (data.scores !== null) {
  const {taus, moments, colours, shown} = data.scores;
  const again = () => draw(document.getElementById('scored'));
  score = menu('score', Object.keys(taus).map(each => [each, each]), again);
  moment = menu('moment', moments.map((each, i) => [i, each]), again);
  series = chips('series', colours, shown, () => draw(document.getElementById('taus')));
}

const all = {curves, seeds, points, histogram: () => bars(data.metrics[metric.value].histogram, unit()),
             sizes: () => bars(data.sizes, 'parameters'), taus, scored};
for (const [id, figure] of Object.entries(all)) {
  plot(id, figure, ({customdata}) => {
    if (customdata !== undefined) choose(typeof customdata === 'string' ? customdata : data.genotype[customdata]);
  });
}
