BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0010');
CREATE TABLE applied_edit (
	model_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	edit_id INTEGER NOT NULL, 
	CONSTRAINT pk_applied_edit PRIMARY KEY (model_id, position), 
	CONSTRAINT uq_applied_edit_model_id_edit_id UNIQUE (model_id, edit_id), 
	CONSTRAINT fk_applied_edit_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE, 
	CONSTRAINT fk_applied_edit_edit_id_edit FOREIGN KEY(edit_id) REFERENCES edit (id) ON DELETE RESTRICT
)
 WITHOUT ROWID

;
INSERT INTO "applied_edit" VALUES(1,0,1);
CREATE TABLE edit (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	recipe JSON NOT NULL, 
	object_hash VARCHAR NOT NULL, 
	object_path VARCHAR NOT NULL, 
	base_version VARCHAR NOT NULL, 
	fact_id INTEGER, 
	relation_id INTEGER, 
	created_at VARCHAR NOT NULL, author VARCHAR, fact_numbers JSON, conditions JSON, 
	CONSTRAINT pk_edit PRIMARY KEY (id), 
	CONSTRAINT fk_edit_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE, 
	CONSTRAINT uq_edit_model_id_object_hash UNIQUE (model_id, object_hash), 
	CONSTRAINT fk_edit_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE SET NULL, 
	CONSTRAINT fk_edit_relation_id_relation FOREIGN KEY(relation_id) REFERENCES relation (id) ON DELETE SET NULL
);
INSERT INTO "edit" VALUES(1,1,'erase','{}','2958d416d08aa5a472d7b509036cb7eafd542add84527e66a145ea64cb4cdc75','29/2958d416d08aa5a472d7b509036cb7eafd542add84527e66a145ea64cb4cdc75.safetensors','cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2',1,1,'2025-01-02T03:04:05+00:00','ada','{"7": 1}','{"checked": [{"condition": "success>=0.95", "confident": false, "value": 1.0, "low": 0.2, "high": 1.0, "holds": true}], "skipped": [], "edits": 1, "version": null, "evaluation": 1, "settings": {"sample": 300, "seed": 0}}');
CREATE TABLE edit_neuron (
	edit_id INTEGER NOT NULL, 
	layer INTEGER NOT NULL, 
	neuron INTEGER NOT NULL, 
	parameter VARCHAR NOT NULL, 
	old_sha256 VARCHAR NOT NULL, 
	new_sha256 VARCHAR NOT NULL, 
	base_sha256 VARCHAR NOT NULL, 
	CONSTRAINT pk_edit_neuron PRIMARY KEY (edit_id, layer, neuron), 
	CONSTRAINT fk_edit_neuron_edit_id_edit FOREIGN KEY(edit_id) REFERENCES edit (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "edit_neuron" VALUES(1,3,511,'layer.3.weight','cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4','11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437','cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4');
CREATE TABLE edit_tensor (
	edit_id INTEGER NOT NULL, 
	parameter VARCHAR NOT NULL, 
	old_sha256 VARCHAR NOT NULL, 
	new_sha256 VARCHAR NOT NULL, 
	base_sha256 VARCHAR NOT NULL, 
	CONSTRAINT pk_edit_tensor PRIMARY KEY (edit_id, parameter), 
	CONSTRAINT fk_edit_tensor_edit_id_edit FOREIGN KEY(edit_id) REFERENCES edit (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "edit_tensor" VALUES(1,'head.weight','cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4','11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437','cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4');
CREATE TABLE edit_trial (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	version VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	status VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, 
	finished_at VARCHAR, 
	CONSTRAINT pk_edit_trial PRIMARY KEY (id), 
	CONSTRAINT ck_edit_trial_kind CHECK (kind IN ('bench', 'sweep')), 
	CONSTRAINT ck_edit_trial_status CHECK (status IN ('running', 'complete')), 
	CONSTRAINT fk_edit_trial_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE
);
INSERT INTO "edit_trial" VALUES(1,1,'cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','bench','{"method": "update"}','running','2025-01-02T03:04:05+00:00',NULL);
CREATE TABLE edit_trial_result (
	trial_id INTEGER NOT NULL, 
	part VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	fact_id INTEGER, 
	measures JSON NOT NULL, 
	CONSTRAINT pk_edit_trial_result PRIMARY KEY (trial_id, part, position), 
	CONSTRAINT fk_edit_trial_result_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE SET NULL, 
	CONSTRAINT fk_edit_trial_result_trial_id_edit_trial FOREIGN KEY(trial_id) REFERENCES edit_trial (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "edit_trial_result" VALUES(1,'single',0,1,'{"edited": {}}');
CREATE TABLE evaluation (
	id INTEGER NOT NULL, 
	edit_id INTEGER NOT NULL, 
	version_before VARCHAR NOT NULL, 
	version_after VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	measures JSON NOT NULL, 
	created_at VARCHAR NOT NULL, 
	CONSTRAINT pk_evaluation PRIMARY KEY (id), 
	CONSTRAINT fk_evaluation_edit_id_edit FOREIGN KEY(edit_id) REFERENCES edit (id) ON DELETE CASCADE
);
INSERT INTO "evaluation" VALUES(1,1,'cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','1fb9f4097256db2d7b1e13aff79cee44339891a31c556b9cf6093885773b3618','{}','{"success": 1.0}','2025-01-02T03:04:05+00:00');
CREATE TABLE evaluation_measure (
	evaluation_id INTEGER NOT NULL, 
	weights VARCHAR NOT NULL, 
	prompts_of VARCHAR NOT NULL, 
	measure VARCHAR NOT NULL, 
	value DOUBLE, 
	low DOUBLE, 
	high DOUBLE, 
	facts INTEGER, 
	CONSTRAINT pk_evaluation_measure PRIMARY KEY (evaluation_id, weights, prompts_of, measure), 
	CONSTRAINT ck_evaluation_measure_weights CHECK (weights IN ('edited', 'control')), 
	CONSTRAINT fk_evaluation_measure_evaluation_id_evaluation FOREIGN KEY(evaluation_id) REFERENCES evaluation (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "evaluation_measure" VALUES(1,'control','inter','perplexity_after',NULL,NULL,NULL,NULL);
INSERT INTO "evaluation_measure" VALUES(1,'edited','own','success_rate',1.0,0.2,1.0,1);
CREATE TABLE evaluation_prompt (
	id INTEGER NOT NULL, 
	fact_id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	axis VARCHAR NOT NULL, 
	text VARCHAR NOT NULL, 
	answers JSON NOT NULL, 
	new_object VARCHAR, 
	needs JSON NOT NULL, 
	CONSTRAINT pk_evaluation_prompt PRIMARY KEY (id), 
	CONSTRAINT ck_evaluation_prompt_kind CHECK (kind IN ('paraphrase', 'neighbourhood', 'attribute', 'locality', 'portability', 'generation')), 
	CONSTRAINT fk_evaluation_prompt_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE
);
INSERT INTO "evaluation_prompt" VALUES(1,1,'paraphrase','rephrase','Who makes the iPod Touch? [Y]','[]',NULL,'{}');
INSERT INTO "evaluation_prompt" VALUES(2,1,'portability','Reasoning','The iPod is made in [Y]','["Seoul"]','Samsung','{"answers": [["a [Y]", ["b"]]]}');
INSERT INTO "evaluation_prompt" VALUES(3,3,'generation','generation_prompts','Paris is','[]',NULL,'{}');
CREATE TABLE fact (
	id INTEGER NOT NULL, 
	relation_id INTEGER NOT NULL, 
	subject VARCHAR, 
	object VARCHAR NOT NULL, 
	external_id VARCHAR, 
	source VARCHAR NOT NULL, 
	CONSTRAINT pk_fact PRIMARY KEY (id), 
	CONSTRAINT ck_fact_identified CHECK (subject IS NOT NULL OR external_id IS NOT NULL), 
	CONSTRAINT fk_fact_relation_id_relation FOREIGN KEY(relation_id) REFERENCES relation (id) ON DELETE CASCADE
);
INSERT INTO "fact" VALUES(1,1,'iPod Touch','Apple','f1','facts.jsonl');
INSERT INTO "fact" VALUES(2,1,'Škoda ''Favorit''','Škoda',NULL,'facts.jsonl');
INSERT INTO "fact" VALUES(3,2,NULL,'Paris','bag-1','facts.jsonl');
CREATE TABLE fact_alias (
	external_id VARCHAR NOT NULL, 
	fact_id INTEGER NOT NULL, 
	CONSTRAINT pk_fact_alias PRIMARY KEY (external_id, fact_id), 
	CONSTRAINT fk_fact_alias_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "fact_alias" VALUES('f1-again',1);
CREATE TABLE history (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	action VARCHAR NOT NULL, 
	edit_id INTEGER, 
	version_before VARCHAR NOT NULL, 
	version_after VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, author VARCHAR, direction VARCHAR CONSTRAINT ck_history_direction CHECK (direction IN ('apply', 'revert')), conditions JSON, 
	CONSTRAINT pk_history PRIMARY KEY (id), 
	CONSTRAINT ck_history_action CHECK (action IN ('apply', 'revert', 'restore')), 
	CONSTRAINT fk_history_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE, 
	CONSTRAINT fk_history_edit_id_edit FOREIGN KEY(edit_id) REFERENCES edit (id) ON DELETE RESTRICT
);
INSERT INTO "history" VALUES(1,1,'apply',1,'cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','1fb9f4097256db2d7b1e13aff79cee44339891a31c556b9cf6093885773b3618','2025-01-02T03:04:05+00:00','ada',NULL,'{"checked": [{"condition": "success>=0.95", "confident": false, "value": 1.0, "low": 0.2, "high": 1.0, "holds": true}], "skipped": [], "edits": 1, "version": null, "evaluation": 1, "settings": {"sample": 300, "seed": 0}}');
CREATE TABLE knowledge_neuron (
	refinement_id INTEGER NOT NULL, 
	fact_id INTEGER NOT NULL, 
	layer INTEGER NOT NULL, 
	neuron INTEGER NOT NULL, 
	prompts INTEGER, 
	mean_score DOUBLE, 
	CONSTRAINT pk_knowledge_neuron PRIMARY KEY (refinement_id, fact_id, layer, neuron), 
	CONSTRAINT fk_knowledge_neuron_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE, 
	CONSTRAINT fk_knowledge_neuron_refinement_id_refinement FOREIGN KEY(refinement_id) REFERENCES refinement (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "knowledge_neuron" VALUES(1,1,3,511,1,0.5);
CREATE TABLE model (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	source VARCHAR NOT NULL, 
	fingerprint VARCHAR NOT NULL, 
	family VARCHAR NOT NULL, 
	layers INTEGER NOT NULL, 
	neurons INTEGER NOT NULL, 
	version VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, chat_template VARCHAR, 
	CONSTRAINT pk_model PRIMARY KEY (id), 
	CONSTRAINT uq_model_name UNIQUE (name)
);
INSERT INTO "model" VALUES(1,'bert','data/lab-bert','9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4','bert',4,512,'1fb9f4097256db2d7b1e13aff79cee44339891a31c556b9cf6093885773b3618','2025-01-02T03:04:05+00:00','31e06f7d89feb99a0e6c0affe198748c3bb5bef5e3cc92d95cb9e996197d3fc3');
CREATE TABLE probe (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	version VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	refinement_id INTEGER NOT NULL, 
	settings JSON NOT NULL, 
	created_at VARCHAR NOT NULL, 
	CONSTRAINT pk_probe PRIMARY KEY (id), 
	CONSTRAINT ck_probe_kind CHECK (kind IN ('suppress', 'amplify', 'activation')), 
	CONSTRAINT fk_probe_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE, 
	CONSTRAINT fk_probe_refinement_id_refinement FOREIGN KEY(refinement_id) REFERENCES refinement (id) ON DELETE CASCADE
);
INSERT INTO "probe" VALUES(1,1,'cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','suppress',1,'{"factor": 0.0, "seed": 0}','2025-01-02T03:04:05+00:00');
INSERT INTO "probe" VALUES(2,1,'cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','activation',1,'{"seed": 0}','2025-01-02T03:04:05+00:00');
CREATE TABLE probe_activation (
	probe_id INTEGER NOT NULL, 
	fact_id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	texts INTEGER NOT NULL, 
	mean_activation DOUBLE NOT NULL, 
	CONSTRAINT pk_probe_activation PRIMARY KEY (probe_id, fact_id, kind), 
	CONSTRAINT ck_probe_activation_kind CHECK (kind IN ('head-and-tail', 'head', 'neither')), 
	CONSTRAINT fk_probe_activation_probe_id_probe FOREIGN KEY(probe_id) REFERENCES probe (id) ON DELETE CASCADE, 
	CONSTRAINT fk_probe_activation_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "probe_activation" VALUES(2,1,'head-and-tail',2,0.5);
CREATE TABLE probe_fact (
	probe_id INTEGER NOT NULL, 
	fact_id INTEGER NOT NULL, 
	neurons_from VARCHAR NOT NULL, 
	prompts_of VARCHAR NOT NULL, 
	neurons INTEGER NOT NULL, 
	prompts INTEGER NOT NULL, 
	probability_before DOUBLE NOT NULL, 
	probability_after DOUBLE NOT NULL, 
	correct_before DOUBLE NOT NULL, 
	correct_after DOUBLE NOT NULL, 
	flips DOUBLE NOT NULL, 
	CONSTRAINT pk_probe_fact PRIMARY KEY (probe_id, fact_id, neurons_from, prompts_of), 
	CONSTRAINT ck_probe_fact_neurons_from CHECK (neurons_from IN ('knowledge', 'random', 'activation')), 
	CONSTRAINT ck_probe_fact_prompts_of CHECK (prompts_of IN ('own', 'other')), 
	CONSTRAINT fk_probe_fact_probe_id_probe FOREIGN KEY(probe_id) REFERENCES probe (id) ON DELETE CASCADE, 
	CONSTRAINT fk_probe_fact_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "probe_fact" VALUES(1,1,'knowledge','own',1,1,0.75,0.25,1.0,0.0,1.0);
CREATE TABLE probe_text (
	probe_id INTEGER NOT NULL, 
	fact_id INTEGER NOT NULL, 
	rank INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	text VARCHAR NOT NULL, 
	activation DOUBLE NOT NULL, 
	CONSTRAINT pk_probe_text PRIMARY KEY (probe_id, fact_id, rank), 
	CONSTRAINT fk_probe_text_probe_id_probe FOREIGN KEY(probe_id) REFERENCES probe (id) ON DELETE CASCADE, 
	CONSTRAINT fk_probe_text_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "probe_text" VALUES(2,1,1,'head-and-tail','Apple made the iPod Touch.',0.75);
CREATE TABLE prompt (
	id INTEGER NOT NULL, 
	fact_id INTEGER NOT NULL, 
	template_id INTEGER, 
	text VARCHAR NOT NULL, 
	CONSTRAINT pk_prompt PRIMARY KEY (id), 
	CONSTRAINT fk_prompt_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE, 
	CONSTRAINT fk_prompt_template_id_template FOREIGN KEY(template_id) REFERENCES template (id) ON DELETE CASCADE, 
	CONSTRAINT uq_prompt_fact_id_text UNIQUE (fact_id, text)
);
INSERT INTO "prompt" VALUES(1,2,NULL,'[Y] made the Favorit.');
INSERT INTO "prompt" VALUES(2,3,NULL,'France''s capital is [Y].');
INSERT INTO "prompt" VALUES(3,1,1,'iPod Touch is produced by [Y].');
INSERT INTO "prompt" VALUES(4,1,2,'The maker of iPod Touch is [Y] today.');
INSERT INTO "prompt" VALUES(5,2,1,'Škoda ''Favorit'' is produced by [Y].');
INSERT INTO "prompt" VALUES(6,2,2,'The maker of Škoda ''Favorit'' is [Y] today.');
CREATE TABLE prompt_result (
	run_id INTEGER NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	probability DOUBLE, 
	predicted VARCHAR, 
	predicted_probability DOUBLE, 
	correct BOOLEAN, 
	completeness_error DOUBLE, 
	completeness_error_mean DOUBLE, 
	max_score DOUBLE, 
	evaluations INTEGER, 
	tokens INTEGER, 
	skipped VARCHAR, answer_tokens INTEGER, min_score DOUBLE, worst_layer INTEGER, layers_above JSON, 
	CONSTRAINT pk_prompt_result PRIMARY KEY (run_id, prompt_id), 
	CONSTRAINT fk_prompt_result_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE, 
	CONSTRAINT fk_prompt_result_prompt_id_prompt FOREIGN KEY(prompt_id) REFERENCES prompt (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "prompt_result" VALUES(1,3,0.75,'Apple',0.75,1,0.01,0.001,0.5,81,7,NULL,2,-0.125,3,'{"3": 0.01}');
INSERT INTO "prompt_result" VALUES(1,4,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'answer-merges-with-prompt',NULL,NULL,NULL,NULL);
CREATE TABLE refinement (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	settings JSON NOT NULL, 
	created_at VARCHAR NOT NULL, 
	CONSTRAINT pk_refinement PRIMARY KEY (id), 
	CONSTRAINT fk_refinement_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
);
INSERT INTO "refinement" VALUES(1,1,'{"share": 0.7, "threshold": 0.2}','2025-01-02T03:04:05+00:00');
CREATE TABLE refinement_relation (
	refinement_id INTEGER NOT NULL, 
	relation_id INTEGER NOT NULL, 
	share DOUBLE, 
	passes INTEGER, 
	facts INTEGER NOT NULL, 
	facts_with_neurons INTEGER NOT NULL, 
	mean_size DOUBLE NOT NULL, 
	CONSTRAINT pk_refinement_relation PRIMARY KEY (refinement_id, relation_id), 
	CONSTRAINT fk_refinement_relation_refinement_id_refinement FOREIGN KEY(refinement_id) REFERENCES refinement (id) ON DELETE CASCADE, 
	CONSTRAINT fk_refinement_relation_relation_id_relation FOREIGN KEY(relation_id) REFERENCES relation (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "refinement_relation" VALUES(1,1,0.7,1,2,1,0.5);
CREATE TABLE relation (
	id INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	label VARCHAR, 
	CONSTRAINT pk_relation PRIMARY KEY (id), 
	CONSTRAINT uq_relation_key UNIQUE ("key")
);
INSERT INTO "relation" VALUES(1,'P176','manufacturer');
INSERT INTO "relation" VALUES(2,'P36',NULL);
CREATE TABLE relation_neuron (
	refinement_id INTEGER NOT NULL, 
	relation_id INTEGER NOT NULL, 
	layer INTEGER NOT NULL, 
	neuron INTEGER NOT NULL, 
	facts INTEGER NOT NULL, 
	CONSTRAINT pk_relation_neuron PRIMARY KEY (refinement_id, relation_id, layer, neuron), 
	CONSTRAINT fk_relation_neuron_refinement_id_refinement FOREIGN KEY(refinement_id) REFERENCES refinement (id) ON DELETE CASCADE, 
	CONSTRAINT fk_relation_neuron_relation_id_relation FOREIGN KEY(relation_id) REFERENCES relation (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "relation_neuron" VALUES(1,1,3,511,1);
CREATE TABLE run (
	id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	version VARCHAR NOT NULL, 
	method VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	status VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, 
	finished_at VARCHAR, 
	CONSTRAINT pk_run PRIMARY KEY (id), 
	CONSTRAINT ck_run_status CHECK (status IN ('running', 'complete')), 
	CONSTRAINT fk_run_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE
);
INSERT INTO "run" VALUES(1,1,'cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','ig','{"floor": 0.1, "steps": 20}','complete','2025-01-02T03:04:05+00:00','2025-01-02T03:04:05+00:00');
INSERT INTO "run" VALUES(2,1,'1fb9f4097256db2d7b1e13aff79cee44339891a31c556b9cf6093885773b3618','ig','{}','running','2025-01-02T03:04:05+00:00',NULL);
CREATE TABLE run_fact (
	run_id INTEGER NOT NULL, 
	fact_id INTEGER NOT NULL, 
	CONSTRAINT pk_run_fact PRIMARY KEY (run_id, fact_id), 
	CONSTRAINT fk_run_fact_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE, 
	CONSTRAINT fk_run_fact_fact_id_fact FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "run_fact" VALUES(1,1);
INSERT INTO "run_fact" VALUES(2,1);
INSERT INTO "run_fact" VALUES(2,3);
CREATE TABLE score (
	run_id INTEGER NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	layer INTEGER NOT NULL, 
	neuron INTEGER NOT NULL, 
	score DOUBLE NOT NULL, 
	CONSTRAINT pk_score PRIMARY KEY (run_id, prompt_id, layer, neuron), 
	CONSTRAINT fk_score_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE, 
	CONSTRAINT fk_score_prompt_id_prompt FOREIGN KEY(prompt_id) REFERENCES prompt (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "score" VALUES(1,3,0,7,-0.125);
INSERT INTO "score" VALUES(1,3,3,511,0.5);
CREATE TABLE snapshot (
	model_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, 
	CONSTRAINT pk_snapshot PRIMARY KEY (model_id, name), 
	CONSTRAINT fk_snapshot_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "snapshot" VALUES(1,'before','cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','2025-01-02T03:04:05+00:00');
CREATE TABLE template (
	id INTEGER NOT NULL, 
	relation_id INTEGER NOT NULL, 
	text VARCHAR NOT NULL, 
	held_out BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_template PRIMARY KEY (id), 
	CONSTRAINT fk_template_relation_id_relation FOREIGN KEY(relation_id) REFERENCES relation (id) ON DELETE CASCADE, 
	CONSTRAINT uq_template_relation_id_text UNIQUE (relation_id, text)
);
INSERT INTO "template" VALUES(1,1,'[X] is produced by [Y].',0);
INSERT INTO "template" VALUES(2,1,'The maker of [X] is [Y] today.',1);
CREATE TABLE version (
	model_id INTEGER NOT NULL, 
	version VARCHAR NOT NULL, 
	edits JSON NOT NULL, 
	created_at VARCHAR NOT NULL, since VARCHAR, 
	CONSTRAINT pk_version PRIMARY KEY (model_id, version), 
	CONSTRAINT fk_version_model_id_model FOREIGN KEY(model_id) REFERENCES model (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "version" VALUES(1,'1fb9f4097256db2d7b1e13aff79cee44339891a31c556b9cf6093885773b3618','[1]','2025-01-02T03:04:05+00:00',NULL);
INSERT INTO "version" VALUES(1,'cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2','[]','2025-01-02T03:04:05+00:00',NULL);
CREATE TABLE work_unit (
	work VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	items JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	holder VARCHAR, 
	lease_until VARCHAR, 
	attempts INTEGER NOT NULL, 
	error VARCHAR, 
	result JSON, 
	CONSTRAINT pk_work_unit PRIMARY KEY (work, position), 
	CONSTRAINT ck_work_unit_state CHECK (state IN ('open', 'leased', 'done', 'failed'))
)
 WITHOUT ROWID

;
INSERT INTO "work_unit" VALUES('probe of something',0,'[1]','done',NULL,NULL,0,NULL,'{"facts": []}');
INSERT INTO "work_unit" VALUES('run 2',0,'[1, 3]','leased','somebody','2025-01-02T03:04:05+00:00',1,'a worker died',NULL);
CREATE UNIQUE INDEX uq_fact_relation_id_subject_object ON fact (relation_id, subject, object) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX uq_fact_relation_id_external_id_unnamed ON fact (relation_id, external_id) WHERE subject IS NULL;
CREATE INDEX ix_fact_relation_id ON fact (relation_id);
CREATE INDEX ix_fact_external_id ON fact (external_id);
CREATE INDEX ix_fact_subject ON fact (subject);
CREATE INDEX ix_prompt_template_id ON prompt (template_id);
CREATE INDEX ix_run_model_id ON run (model_id);
CREATE INDEX ix_refinement_run_id ON refinement (run_id);
CREATE INDEX ix_edit_neuron_layer_neuron ON edit_neuron (layer, neuron);
CREATE INDEX ix_history_model_id ON history (model_id);
CREATE INDEX ix_evaluation_edit_id ON evaluation (edit_id);
CREATE INDEX ix_fact_alias_fact_id ON fact_alias (fact_id);
CREATE INDEX ix_knowledge_neuron_refinement_id_layer_neuron ON knowledge_neuron (refinement_id, layer, neuron);
CREATE INDEX ix_probe_model_id ON probe (model_id);
CREATE INDEX ix_probe_refinement_id ON probe (refinement_id);
CREATE INDEX ix_edit_trial_model_id ON edit_trial (model_id);
CREATE UNIQUE INDEX uq_evaluation_prompt_any_new_object ON evaluation_prompt (fact_id, kind, axis, text, answers, needs) WHERE new_object IS NULL;
CREATE UNIQUE INDEX uq_evaluation_prompt_new_object ON evaluation_prompt (fact_id, kind, axis, text, answers, needs, new_object) WHERE new_object IS NOT NULL;
CREATE INDEX ix_evaluation_prompt_fact_id ON evaluation_prompt (fact_id);
CREATE INDEX ix_edit_tensor_parameter ON edit_tensor (parameter);
CREATE INDEX ix_relation_neuron_refinement_id_layer_neuron_relation_id_facts ON relation_neuron (refinement_id, layer, neuron, relation_id, facts);
COMMIT;
