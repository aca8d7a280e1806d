// Where answers come from: the server that sent this page, or the page itself, where it holds the sums.
"use strict";

const embedded = JSON.parse(document.getElementById("data").textContent);
const token = new URLSearchParams(location.search).get("token") || "";

async function request(path, body) {
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers: { "X-Token": token },
      body: body && JSON.stringify(body) });
  } catch {
    throw new Error("the server does not answer; is circuitsketch page still running?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

const wait = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

const served = {
  load: () => request("data"),
  ask: (ids) => request("ask", { ids }),
  calibration: () => request("calibration"),
  // Polls a retraining until it ends; report(share, text) is called in between.
  async check(ids, report) {
    const { job } = await request("check", { ids });
    for (;;) {
      const now = await request(`check?job=${job}`);
      if (now.error) throw new Error(now.error);
      if (now.answer) return now.answer;
      report(now.share, now.text);
      await wait(200);
    }
  },
};

const local = {
  load: async () => embedded,
  ask: async (ids) => askSums(embedded, ids),
  calibration: async () => embedded.calibration,
};

const answers = embedded ? local : served;
