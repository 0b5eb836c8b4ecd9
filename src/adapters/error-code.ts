// Node's errors by their code. An error may come from another realm (node:vm), so its class says nothing.

export function hasErrorCode(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === code;
}
