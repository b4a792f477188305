{{- define "driftline.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "driftline.labels" -}}
app.kubernetes.io/name: driftline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* What selects the pods of one part: (list $ "worker"). */ -}}
{{- define "driftline.selector" -}}
app.kubernetes.io/name: driftline
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "driftline.claim" -}}
{{- default (printf "%s-releases" (include "driftline.name" .)) .Values.releases.existingClaim -}}
{{- end -}}

{{- /* Things that do not fit together are refused here, with what to do. */ -}}
{{- define "driftline.check" -}}
{{- $v := .Values -}}
{{- $most := ternary $v.keda.maxReplicas $v.worker.replicas $v.keda.enabled -}}
{{- if gt (int $most) (int $v.partitions) -}}
{{- fail (printf "%d workers for %d partitions: at most one worker a partition has work; raise partitions before the topics are made, or lower the number of workers" (int $most) (int $v.partitions)) -}}
{{- end -}}
{{- if and $v.keda.enabled (gt (int $v.keda.minReplicas) (int $v.keda.maxReplicas)) -}}
{{- fail (printf "keda.minReplicas %d is above keda.maxReplicas %d" (int $v.keda.minReplicas) (int $v.keda.maxReplicas)) -}}
{{- end -}}
{{- if not $v.kafka.bootstrapServers -}}
{{- fail "kafka.bootstrapServers is empty: give host:port of the Kafka cluster" -}}
{{- end -}}
{{- if and (hasPrefix "SASL" $v.kafka.protocol) (ne $v.kafka.mechanism "OAUTHBEARER") (not (and $v.kafka.mechanism $v.kafka.username $v.kafka.passwordSecret.name)) -}}
{{- fail (printf "kafka.protocol %s needs kafka.mechanism, kafka.username and kafka.passwordSecret.name" $v.kafka.protocol) -}}
{{- end -}}
{{- if and $v.dashboard.enabled (not $v.dashboard.tokenSecret.name) -}}
{{- fail "dashboard.tokenSecret.name is empty: name a secret with a token, since the dashboard listens beyond its pod; or set dashboard.enabled=false" -}}
{{- end -}}
{{- if and $v.dashboard.ingress.enabled (not $v.dashboard.ingress.host) -}}
{{- fail "dashboard.ingress.host is empty: name the host that the dashboard is reached by" -}}
{{- end -}}
{{- if and (or $v.strimzi.topics $v.strimzi.user) (not $v.strimzi.cluster) -}}
{{- fail "strimzi.cluster is empty: name the Kafka resource that topics and user belong to" -}}
{{- end -}}
{{- range $name, $value := $v.settings -}}
{{- if has $name (list "bootstrap_servers" "topic_prefix" "app_id" "partitions" "data_dir" "releases_dir" "state_dir" "web_host" "arrange_rules") -}}
{{- fail (printf "settings.%s has a value of its own in this chart: use that" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The pod's part that all processes share: (dict "root" $ "part" "worker" "resources" ... "args" (list ...)). */ -}}
{{- define "driftline.podsettings" -}}
serviceAccountName: {{ include "driftline.name" . }}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "driftline.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - configMapRef: {name: {{ include "driftline.name" . }}}
{{- end -}}

{{- define "driftline.env" -}}
{{- with .Values.kafka.passwordSecret }}{{- if .name }}
- name: DRIFTLINE_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- end }}{{- end }}
{{- end -}}

{{- define "driftline.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.kafka.caSecret.name }}
- {name: kafka-ca, mountPath: /etc/driftline/kafka-ca, readOnly: true}
{{- end }}
{{- if .Values.kafka.clientCertSecret.name }}
- {name: kafka-client, mountPath: /etc/driftline/kafka-client, readOnly: true}
{{- end }}
{{- if .Values.rules }}
- {name: rules, mountPath: /etc/driftline/rules, readOnly: true}
{{- end }}
{{- end -}}

{{- define "driftline.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- with .Values.kafka.caSecret.name }}
- {name: kafka-ca, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.kafka.clientCertSecret.name }}
- {name: kafka-client, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- if .Values.rules }}
- {name: rules, configMap: {name: {{ include "driftline.name" . }}-rules}}
{{- end }}
{{- end -}}

{{- define "driftline.probes" -}}
startupProbe:
  httpGet: {path: /health, port: web}
  periodSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /health, port: web}
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /ready, port: web}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}
