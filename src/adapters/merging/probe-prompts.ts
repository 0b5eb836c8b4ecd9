// The probe texts as token ids, in the base's own chat format where it has one.

import { CALIBRATION_TEXTS, CHECK_TEXTS, type ProbeText } from './probe-texts.js';

export interface ProbePrompts {
  readonly calibration: readonly (readonly number[])[];
  readonly checks: readonly (readonly number[])[];
}

/** `encode` gives a text's ids; prompts are cut to `maxTokens`, and those that are cut to nothing are left out. */
export function probePrompts(
  encode: (text: ProbeText) => readonly number[],
  maxTokens: number,
): ProbePrompts {
  const ids = (texts: readonly ProbeText[]) =>
    texts.map((text) => encode(text).slice(0, maxTokens)).filter(({ length }) => length > 1);
  return { calibration: ids(CALIBRATION_TEXTS), checks: ids(CHECK_TEXTS) };
}
