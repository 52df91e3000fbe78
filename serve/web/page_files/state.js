/** What the modules of the page share. */

export const state = {
  model: null, // what /v1/model says
  labels: [], // types of entities, in the order of their colours
  may: new Set(), // what the token allows
  keepsExamples: false, // whether the service has a store of examples
  token: "", // kept until the page is closed or loaded again, and nowhere else
  result: null, // the answer that is shown, as the service gave it, and its language
};

/** Whether the page offers what changes examples. */
export const mayTeach = () => state.keepsExamples && state.may.has("write_examples");
