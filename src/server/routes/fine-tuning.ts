// /v1/fine_tuning/jobs: create, list, show, cancel, pause and resume jobs; their events, whole or as they come, and their checkpoints.

import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { GatewayError } from '../../errors.js';
import type { Caller } from '../../tenants/types.js';
import type { JobEvent, TenantTraining } from '../../train/jobs/types.js';
import { checkModel } from '../adapter-selection.js';
import { STREAM_HEADERS } from '../answer.js';
import { errorBody, toGatewayError } from '../error-response.js';
import { DONE_EVENT, event, EventStream } from '../event-stream.js';
import { listObject } from '../openai/file-object.js';
import { EXTENSION_FIELD } from '../openai/job-extension.js';
import { checkpointObject, jobEventObject, jobObject } from '../openai/job-object.js';
import { documentedJobRequest, jobRequest, toJobRequest } from '../openai/job-request.js';
import { limitBody, readJson, unexpected } from '../request-body.js';
import { queryInteger, querySwitch, readQuery } from '../request-query.js';
import type { ServerApp, ServerEnv, Services } from '../services.js';
import { documentRoute, MAX_JSON_BYTES } from './document.js';

const PATH = '/v1/fine_tuning/jobs';
const MAX_PAGE = 100;
const DEFAULT_PAGE = 20;
const DEFAULT_CHECKPOINTS = 10;

const page = { limit: queryInteger(1, MAX_PAGE).optional(), after: z.string('an id').optional() };
const pageQuery = z.strictObject(page);
const jobsQuery = z.strictObject({
  ...page,
  metadata: z
    .union([z.record(z.string(), z.string()), z.literal('null')], 'metadata[key]=value, or "null"')
    .optional(),
});
const eventsQuery = z.strictObject({ ...page, stream: querySwitch().optional() });

/** JobRequest's fields by their names on the wire. */
const WIRE_NAMES: Readonly<Record<string, string>> = {
  trainingFile: 'training_file',
  validationFile: 'validation_file',
  adapterName: `${EXTENSION_FIELD}.adapter_name`,
};

export function registerFineTuningRoutes(app: ServerApp, services: Services): void {
  const trainingOf = trainingOfCaller(services);
  documentRoute(app, 'post', PATH, 'Train an adapter', { body: documentedJobRequest });
  app.post(PATH, limitBody(MAX_JSON_BYTES), async (c) => {
    const body = await readJson(c, jobRequest);
    await checkBase(services, c.var.caller, body.model);
    const request = toJobRequest(body, services.base);
    return c.json(jobObject(await withWireNames(() => trainingOf(c).create(request))));
  });
  documentRoute(app, 'get', PATH, 'List the jobs', { query: jobsQuery });
  app.get(PATH, async (c) => {
    const { limit = DEFAULT_PAGE, after = null, metadata = null } = readQuery(c, jobsQuery);
    const wanted = metadata === 'null' ? {} : metadata;
    return c.json(listObject(await trainingOf(c).list({ limit, after, metadata: wanted }), jobObject));
  });
  documentRoute(app, 'get', `${PATH}/{job}`, 'Show a job');
  app.get(`${PATH}/:job`, async (c) => c.json(jobObject(await trainingOf(c).get(c.req.param('job')))));
  for (const [change, summary] of CHANGES) {
    documentRoute(app, 'post', `${PATH}/{job}/${change}`, summary);
    app.post(`${PATH}/:job/${change}`, async (c) =>
      c.json(jobObject(await trainingOf(c)[change](c.req.param('job')))),
    );
  }
  registerHistoryRoutes(app, services);
}

function trainingOfCaller({ training }: Services): (c: Context<ServerEnv>) => TenantTraining {
  return (c) => training.of(c.var.caller.tenant);
}

const CHANGES = [
  ['cancel', 'Cancel a job'],
  ['pause', 'Pause a job at the end of its step'],
  ['resume', 'Go on with a paused job from its last checkpoint'],
] as const;

function registerHistoryRoutes(app: ServerApp, services: Services): void {
  const trainingOf = trainingOfCaller(services);
  documentRoute(app, 'get', `${PATH}/{job}/events`, "A job's events; with stream=true as they come", {
    query: eventsQuery,
  });
  app.get(`${PATH}/:job/events`, async (c) => {
    const { limit, after = null, stream = false } = readQuery(c, eventsQuery);
    const job = c.req.param('job');
    if (!stream)
      return c.json(
        listObject(await trainingOf(c).events(job, { limit: limit ?? DEFAULT_PAGE, after }), jobEventObject),
      );
    if (limit !== undefined) throw unexpected('limit', 'absent where `stream` is true', String(limit));
    return streamEvents(c, services, job, after);
  });
  documentRoute(app, 'get', `${PATH}/{job}/checkpoints`, "A job's checkpoints", { query: pageQuery });
  app.get(`${PATH}/:job/checkpoints`, async (c) => {
    const { limit = DEFAULT_CHECKPOINTS, after = null } = readQuery(c, pageQuery);
    const checkpoints = await trainingOf(c).checkpoints(c.req.param('job'), { limit, after });
    return c.json(listObject(checkpoints, checkpointObject));
  });
}

/** Oldest first, until the job has ended. The first event is waited for here, so that an unknown job is a 404. */
async function streamEvents(
  c: Context<ServerEnv>,
  services: Services,
  job: string,
  after: string | null,
): Promise<Response> {
  const gone = new AbortController();
  const leave = () => gone.abort();
  c.req.raw.signal.addEventListener('abort', leave, { once: true });
  const training = trainingOfCaller(services)(c);
  await training.get(job);
  const events = training.follow(job, after, gone.signal);
  const stream = new EventStream(leave);
  void writeEvents(c, services, events, stream);
  return c.body(stream.body, 200, STREAM_HEADERS);
}

async function writeEvents(
  c: Context<ServerEnv>,
  services: Services,
  events: AsyncGenerator<JobEvent, void, undefined>,
  stream: EventStream,
): Promise<void> {
  try {
    for await (const item of events) stream.write(event(jobEventObject(item)));
    stream.write(DONE_EVENT);
  } catch (error) {
    stream.write(event(errorBody(toGatewayError(error, c.var.requestId, services.logger))));
  } finally {
    stream.close();
  }
}

/** Training begins from the base. Throws model_not_found and invalid_value. */
async function checkBase(services: Services, caller: Caller, model: string): Promise<void> {
  const { base } = services;
  if (model === base.name) return;
  await checkModel(services, caller, model);
  throw unexpected('model', `the base \`${base.name}\`: training does not go on from an adapter`, model);
}

async function withWireNames<T>(task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    const name = error instanceof GatewayError ? WIRE_NAMES[error.param ?? ''] : undefined;
    if (!(error instanceof GatewayError) || name === undefined) throw error;
    throw new GatewayError(error.code, error.message.replaceAll(`\`${error.param}\``, `\`${name}\``), {
      param: name,
      cause: error,
    });
  }
}
