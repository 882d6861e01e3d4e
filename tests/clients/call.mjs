// Calls entries by the client for Node.js: reads a list of `[entry, arguments]` in JSON, and prints the results.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const { Client } = createRequire(import.meta.url)("pg");
const sms = await import(pathToFileURL(resolve(process.argv[2])));
const client = new Client({ connectionString: process.env.DATABASE_URL });
const results = [];

await client.connect();
await client.query("begin");
for (const [entry, given] of JSON.parse(readFileSync(0, "utf8"))) {
  for (const name of ["scheduled_for", "expires_at"]) if (given[name]) given[name] = new Date(given[name]);
  results.push(await sms[entry](client, given));
}
await client.query("commit");
await client.end();
console.log(JSON.stringify(results));
