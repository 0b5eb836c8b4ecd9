// Turns of a tenant: its tasks run one after the other, in the order in which they came, beside those of other tenants.

export type Turns = <T>(tenant: string, task: () => Promise<T>) => Promise<T>;

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return <T>(tenant: string, task: () => Promise<T>): Promise<T> => {
    const before = last.get(tenant) ?? Promise.resolve();
    const run = before.then(task, task);
    last.set(tenant, run);
    const forget = () => {
      if (last.get(tenant) === run) last.delete(tenant);
    };
    run.then(forget, forget);
    return run;
  };
}
