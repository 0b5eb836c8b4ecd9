// strftime() for chat templates that print a date: English, local time, the directives that templates use.

const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

/** Python's `date.strftime(format)`; an unknown directive stays as it is written. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%([-]?)([a-zA-Z%])/g, (found, unpadded: string, directive: string) => {
    const value = directiveValue(date, directive);
    if (value === undefined) return found;
    return unpadded === '' ? value : value.replace(/^0+(?=.)/, '');
  });
}

function directiveValue(date: Date, directive: string): string | undefined {
  const two = (value: number) => String(value).padStart(2, '0');
  const month = MONTHS[date.getMonth()]!;
  const day = DAYS[date.getDay()]!;
  const table: Readonly<Record<string, string>> = {
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    H: two(date.getHours()),
    I: two(date.getHours() % 12 || 12),
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    p: date.getHours() < 12 ? 'AM' : 'PM',
    B: month,
    b: month.slice(0, 3),
    A: day,
    a: day.slice(0, 3),
    '%': '%',
  };
  return table[directive];
}
