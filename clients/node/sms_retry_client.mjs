// The client of sms-retry for Node.js: one file without dependencies, to copy. `make clients` of sms-retry writes it.
//
// Each function runs one statement on a client of the driver `pg`, and so belongs to the transaction of that client. A
// missing argument has the default of the database. Ids are strings: they may be larger than a number can hold exactly.

/** @typedef {{ query(text: string, values: any[]): Promise<{ rows: any[] }> }} Client a client of `pg` */
/** @typedef {{ place: number; message_id: string | null; status: string | null; fault: string | null }} Place */
/** @typedef {{ status: string; messages: string }} BatchCount */
/** @typedef {{ message_id: string; status: string | null; provider_sid: string | null; next_attempt_at: Date | null; error_code: number | null }} MessageState */
/** @typedef {{ id: string; type: string | null; at: Date | null; message_id: string | null; message_key: string | null; business_id: string | null; batch: string | null; error_code: number | null; reason: string | null; detail: any | null }} Event */

/**
 * Queue one message, once per key, inside the caller's transaction. Returns the message's id.
 * @param {Client} client
 * @param {object} given
 * @param {string} given.to_number the recipient in E.164, such as +14155550123
 * @param {string} given.body 1 to 1,600 characters
 * @param {string} [given.message_key] the same key twice, in one business_id, is one message
 * @param {string} [given.business_id] the business that the message is sent for
 * @param {string} [given.kind] transactional, marketing, otp or emergency
 * @param {string} [given.on_unknown] resend or hold
 * @param {string} [given.time_zone] an IANA time zone of the recipient
 * @param {Date | string} [given.scheduled_for] not sent before this time
 * @param {Date | string} [given.expires_at] not sent after this time
 * @param {number} [given.error_code] Twilio's code of a first send that failed
 * @param {string} [given.error_message] Twilio's text of that failure
 * @param {string[]} [given.delays] the waits after that failure
 * @param {string} [given.sender] a number, a short code, a name or a Messaging Service
 * @param {string} [given.batch] the name of the batch
 * @param {string[]} [given.media_urls] 1 to 10 https URLs
 * @param {string} [given.content_sid] a content template, HX...
 * @param {object} [given.content_variables] the variables of the template
 * @returns {Promise<string>}
 */
export async function queue_sms_retry(client, given) {
  return (await rows(client, "queue_sms_retry", { to_number: "text", body: "text", message_key: "text", business_id: "text", kind: "text", on_unknown: "text", time_zone: "text", scheduled_for: "timestamptz", expires_at: "timestamptz", error_code: "integer", error_message: "text", delays: "interval[]", sender: "text", batch: "text", media_urls: "text[]", content_sid: "text", content_variables: "jsonb" }, given))[0].queue_sms_retry;
}

/**
 * Queue many messages. Returns a row for each place, from 1: the message, or the fault of a refused one.
 * @param {Client} client
 * @param {object} given
 * @param {object[]} given.messages 1 to 10,000 objects with the fields of send_sms, such as to, body and message_key
 * @param {string} [given.batch] the batch of all that name none
 * @returns {Promise<Place[]>}
 */
export async function queue_sms_retries(client, given) {
  return await rows(client, "queue_sms_retries", { messages: "jsonb", batch: "text" }, given);
}

/**
 * Cancel one message. Returns its status. A message that was sent, or is being sent, is not sent again.
 * @param {Client} client
 * @param {object} given
 * @param {string | number | bigint} given.message_id the id that the message was queued with
 * @returns {Promise<string | null>}
 */
export async function cancel_sms_retry(client, given) {
  return (await rows(client, "cancel_sms_retry", { message_id: "bigint" }, given))[0].cancel_sms_retry;
}

/**
 * Cancel a batch. Returns how many messages were cancelled. No message of it is sent again.
 * @param {Client} client
 * @param {object} given
 * @param {string} given.batch the name of the batch
 * @param {number} [given.limit_count] the most messages to cancel in one call
 * @returns {Promise<number>}
 */
export async function cancel_sms_batch(client, given) {
  return (await rows(client, "cancel_sms_batch", { batch: "text", limit_count: "integer" }, given))[0].cancel_sms_batch;
}

/**
 * Count the messages of a batch by status.
 * @param {Client} client
 * @param {object} given
 * @param {string} given.batch the name of the batch
 * @returns {Promise<BatchCount[]>}
 */
export async function sms_batch(client, given) {
  return await rows(client, "sms_batch", { batch: "text" }, given);
}

/**
 * Record a person's consent. Returns how many waiting messages failed by an opt-out.
 * @param {Client} client
 * @param {object} given
 * @param {string} given.business_id the business, or * for every business
 * @param {string} given.phone_number the person, in E.164
 * @param {string} given.consent opted_in, opted_out or unknown
 * @returns {Promise<number>}
 */
export async function set_sms_consent(client, given) {
  return (await rows(client, "set_sms_consent", { business_id: "text", phone_number: "text", consent: "text" }, given))[0].set_sms_consent;
}

/**
 * The state of one message; no row for an id that does not exist.
 * @param {Client} client
 * @param {object} given
 * @param {string | number | bigint} given.message_id the id that the message was queued with
 * @returns {Promise<MessageState[]>}
 */
export async function sms_message_state(client, given) {
  return await rows(client, "sms_message_state", { message_id: "bigint" }, given);
}

/**
 * Lease the oldest events. An event that done_sms_events has not confirmed comes again after the lease.
 * @param {Client} client
 * @param {object} [given]
 * @param {number} [given.limit_count] the most events
 * @param {string} [given.lease] how long no other consumer gets them
 * @returns {Promise<Event[]>}
 */
export async function take_sms_events(client, given = {}) {
  return await rows(client, "take_sms_events", { limit_count: "integer", lease: "interval" }, given);
}

/**
 * Confirm events: they do not come again. Returns the number of events that were waiting.
 * @param {Client} client
 * @param {object} given
 * @param {(string | number | bigint)[]} given.ids the ids of events
 * @returns {Promise<number>}
 */
export async function done_sms_events(client, given) {
  return (await rows(client, "done_sms_events", { ids: "bigint[]" }, given))[0].done_sms_events;
}

/**
 * @param {Client} client
 * @param {string} name
 * @param {Record<string, string>} types
 * @param {Record<string, any>} given
 * @returns {Promise<any[]>}
 */
async function rows(client, name, types, given) {
  const wrong = Object.keys(given).find((key) => !(key in types));
  if (wrong) throw new TypeError(`${name} has no argument ${wrong}`);
  const names = Object.keys(types).filter((key) => given[key] !== undefined && given[key] !== null);
  const places = names.map((key, n) => `${key} => $${n + 1}::${types[key]}`).join(", ");
  const values = names.map((key) => (types[key] === "jsonb" ? JSON.stringify(given[key]) : given[key]));
  return (await client.query(`select * from sms_retry.${name}(${places})`, values)).rows;
}
