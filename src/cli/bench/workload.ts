// What the load consists of: seeded prompts of random words, which adapter each request takes, and the scenarios. No clock, no sockets.
import { randomStream } from '../../engine/random.js';

/** "base", or the adapters in turn, or by popularity: the adapter of rank k with weight 1/k. */
export type Pick = 'base' | 'round robin' | 'zipf';

export interface Scenario {
  readonly name: string;
  readonly pick: Pick;
  readonly concurrency: number;
  readonly requests: number;
  readonly maxTokens: number;
}

export const NUM_ADAPTERS = 8;
export const SYSTEM_PROMPT = 'You are a helpful assistant.';
const PROMPT_WORDS = 88;

const WORDS =
  `time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work government number night point home water room mother area money story
fact month lot right study book eye job word business issue side kind head house service friend father power hour game line
end member law car city community name president team minute idea kid body information back parent face others level office
door health person art war history party result change morning reason research girl guy moment air teacher force education
river garden engine market signal paper window bridge forest music winter summer coffee letter doctor island village machine
picture planet`.split(/\s+/);

/** User text `index` of a run; begins with words of its own, so that no two share more than the system prompt. */
export function userText(seed: number, index: number): string {
  const random = randomStream(seed * 2 ** 20 + index);
  const word = (): string => WORDS[Math.floor(random() * WORDS.length)]!;
  const body = Array.from({ length: PROMPT_WORDS + 3 }, word).join(' ');
  return `${body}. Write a long story that uses these words.`;
}

/** Seeded ids below `vocabSize`. */
export function tokenIds(seed: number, length: number, vocabSize: number): number[] {
  const random = randomStream(seed);
  return Array.from({ length }, () => Math.floor(random() * vocabSize));
}

/** The adapter of each of `count` requests; null is the base. */
export function adapterPicks(pick: Pick, count: number, seed: number): readonly (number | null)[] {
  const random = randomStream(seed);
  return Array.from({ length: count }, (_, i) => {
    if (pick === 'base') return null;
    return pick === 'round robin' ? i % NUM_ADAPTERS : zipf(random());
  });
}

export function scenarios(quick: boolean): readonly Scenario[] {
  const scenario = (name: string, pick: Pick, concurrency: number, requests: number): Scenario => ({
    name,
    pick,
    concurrency,
    requests: quick ? Math.max(2, concurrency) : requests,
    maxTokens: quick ? 16 : 128,
  });
  return [
    scenario('base, 1 at once', 'base', 1, 8),
    scenario('base, 8 at once', 'base', 8, 64),
    scenario('base, 16 at once', 'base', 16, 64),
    scenario(`${NUM_ADAPTERS} LoRA r16 in turn, 8 at once`, 'round robin', 8, 64),
    scenario(`Zipf of ${NUM_ADAPTERS} LoRA r16, 16 at once`, 'zipf', 16, 64),
  ];
}

/** `uniform` in [0, 1) to an item, each as likely as its weight says. */
export function pickWeighted<T extends { readonly weight: number }>(uniform: number, items: readonly T[]): T {
  let left = uniform * items.reduce((sum, { weight }) => sum + weight, 0);
  return items.find(({ weight }) => (left -= weight) < 0) ?? items.at(-1)!;
}

/** P(k) ~ 1 / (k + 1). */
function zipf(uniform: number): number {
  return pickWeighted(
    uniform,
    Array.from({ length: NUM_ADAPTERS }, (_, k) => ({ index: k, weight: 1 / (k + 1) })),
  ).index;
}
