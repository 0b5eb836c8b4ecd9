// Reads a server's /metrics: series of Prometheus' text format by name, with their labels.
import { GatewayError } from '../../errors.js';

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Throws unavailable where /metrics is not answered. */
export async function readMetrics(url: string, apiKey: string | null = null): Promise<readonly Series[]> {
  const headers = apiKey === null ? {} : { authorization: `Bearer ${apiKey}` };
  const response = await fetch(`${url}/metrics`, { headers });
  if (!response.ok) throw new GatewayError('unavailable', `${url}/metrics answered ${response.status}`);
  return parseMetrics(await response.text());
}

export function parseMetrics(text: string): readonly Series[] {
  return text.split('\n').flatMap((line) => {
    const match = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match === null) return [];
    const labels = [...(match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
    return [
      {
        name: match[1]!,
        labels: Object.fromEntries(labels.map(([, name, value]) => [name!, value!])),
        value: Number(match[3]),
      },
    ];
  });
}

/** The sum of the series of this name that have all of these labels; 0 for none. */
export function sumOf(
  series: readonly Series[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number {
  return series
    .filter((one) => one.name === name)
    .filter((one) => Object.entries(labels).every(([label, value]) => one.labels[label] === value))
    .reduce((sum, { value }) => sum + value, 0);
}
