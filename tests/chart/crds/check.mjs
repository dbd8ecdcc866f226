// Objects as JSON in, a map from each kind to what is wrong with it (null: nothing) out.
const PACKAGES = {
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
  'gateway.networking.k8s.io': '@kubernetes-models/gateway-api',
};

async function problem({ apiVersion, kind, ...rest }) {
  const [group, version] = apiVersion.split('/');
  const { [kind]: Model } = await import(`${PACKAGES[group]}/${group}/${version}/${kind}`);
  try {
    new Model({ apiVersion, kind, ...rest }).validate();
    return null;
  } catch (error) {
    return error.message;
  }
}

let text = '';
for await (const part of process.stdin) text += part;
const found = {};
for (const object of JSON.parse(text)) found[object.kind] = found[object.kind] ?? (await problem(object));
console.log(JSON.stringify(found));
