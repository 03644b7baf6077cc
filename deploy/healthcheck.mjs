// Docker health check of the Katamari process in this container. The first argument is `livez` (default) or `readyz`.
// The exit code is 0 if the stats faceplate answers that path with 200, and 1 otherwise; the output has the reason. A
// Node script, because the image has no curl.

const [what = 'livez'] = process.argv.slice(2);
const port = process.env.KATAMARI_PORTS_STATS || '9081';
try {
  const answer = await fetch(`http://127.0.0.1:${port}/${what}`, { signal: AbortSignal.timeout(2_500) });
  console.log((await answer.text()).trim());
  process.exitCode = answer.ok ? 0 : 1;
} catch (error) {
  console.log(`${what} on port ${port}: ${error.cause?.message ?? error.message}`);
  process.exitCode = 1;
}
