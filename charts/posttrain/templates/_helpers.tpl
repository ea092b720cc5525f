{{/* Name of everything that this release installs. */}}
{{- define "posttrain.name" -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels by which the operator's pod is selected: operator/posttrain_operator/network.py lets pods with the first two
     ask trainers and servers how they are. */}}
{{- define "posttrain.selector" -}}
app.kubernetes.io/name: posttrain
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "posttrain.labels" -}}
{{ include "posttrain.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* An image reference; one without tag or digest gets the chart's version. Takes (list $ "reference"). */}}
{{- define "posttrain.image" -}}
{{- $reference := index . 1 -}}
{{- if regexMatch "[:@]" (last (splitList "/" $reference)) -}}
{{ $reference }}
{{- else -}}
{{ printf "%s:%s" $reference (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end -}}
