// The table and the figure of a ranking.
const table = document.querySelector('#scores');
const body = table.querySelector('tbody');
const heads = [...table.querySelectorAll('th')];

function sort(column, down) {
  const value = row => row.cells[column].dataset.value;
  const words = column < 2;
  const compare = (a, b) => words ? value(a).localeCompare(value(b), 'en', {numeric: true}) : value(a) - value(b);
  const missing = row => value(row) === '';
  body.append(...[...body.rows].sort(
    (a, b) => missing(a) - missing(b) || (down ? compare(b, a) : compare(a, b))));
  for (const head of heads) if (head.ariaSort !== null) head.ariaSort = 'none';
  heads[column].ariaSort = down ? 'descending' : 'ascending';
}

heads.forEach((head, column) => head.querySelector('button')?.addEventListener('click', () => {
  sort(column, head.ariaSort === 'none' ? column > 1 : head.ariaSort === 'ascending');
}));
sort(2, true);

const moment = menu('moment', [...data.moments.map(each => [each, each]), ['', 'every moment']], () => {
  table.classList.toggle('one', moment.value !== '');
  for (const row of body.rows) row.hidden = ![row.cells[0].dataset.value, ''].includes(moment.value);
});
moment.dispatchEvent(new Event('change'));

function costs() {
  return {
    traces: Object.entries(data.series).filter(([score]) => series.has(score)).map(([score, rows]) => ({
      name: score, x: rows.map(row => row.seconds), y: rows.map(row => row.value),
      text: rows.map(row => row.moment), mode: 'lines+markers',
      line: {color: data.colours[score], width: 1.5},
      error_y: {type: 'data', symmetric: false, thickness: .8, width: 3,
                array: rows.map(row => row.high - row.value),
                arrayminus: rows.map(row => row.value - row.low)},
      hovertemplate: `${score}, %{text}: %{y:.3f}, %{x:.3g} s<extra></extra>`,
    })),
    layout: {xaxis: axis('seconds for one network'), yaxis: axis("Kendall's tau")},
  };
}

let series;
if (document.getElementById('costs') !== null) {
  series = chips('series', data.colours, data.shown, () => draw(document.getElementById('costs')));
  plot('costs', costs);
}
